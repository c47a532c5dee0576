"""Two leads and the device between them, as harmonic force constants."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thermal_flows import units
from thermal_flows.lattice.pair_constants import ForceConstantsError, PairForceConstants
from thermal_flows.transport.errors import JunctionError, UnstableLeadError

_ARRAYS = ("cell", "pos", "mass", "i", "j", "R", "phi")
_PARTS = {"L": "left", "R": "right", "D": "device"}


@dataclass(frozen=True, eq=False)
class Junction:
    """A left lead, a device and a right lead; transport runs along +z.

    Parameters
    ----------
    left, right : PairForceConstants
        One principal layer of each lead (the third cell vector is the layer's translation, possibly oblique). A layer
        couples only to its two neighbours, ``|R3| <= 1``.
    device : PairForceConstants
        Finite along z (``R3 = 0``; its third cell vector is not used). Its first atoms are one principal layer of the left
        lead, its last atoms one of the right lead, in the order of the lead's atoms. The coupling of those to the leads is
        the leads' own ``R3 = +1`` block.
    symmetry_tolerance : float
        Largest accepted violation of phi_ij(R) = phi_ji(-R)^T, relative to the strongest force constant.

    Raises
    ------
    JunctionError
        If the in-plane cells differ, a lead reaches beyond its nearest principal layers, the device reaches out of its cell
        or is too short, or force constants are not symmetric.

    Notes
    -----
    Fourier convention: phases exp(+i q.R) of cell translations, q in fractions of the in-plane reciprocal vectors b1, b2.
    """

    left: PairForceConstants
    right: PairForceConstants
    device: PairForceConstants
    symmetry_tolerance: float = 1e-6

    def __post_init__(self) -> None:
        scale = float(np.linalg.norm(self.left.cell[:2], axis=1).max())
        for name in _PARTS.values():
            part: PairForceConstants = getattr(self, name)
            if np.abs(part.cell[:2] - self.left.cell[:2]).max() > 1e-6 * scale:
                raise JunctionError(
                    f"the in-plane cell of the {name} differs from that of the left lead by "
                    f"{np.abs(part.cell[:2] - self.left.cell[:2]).max():.3g} A; both leads and the device must share a1 and a2"
                )
            if np.abs(part.cell[:2, 2]).max() > 1e-8 * scale:
                raise JunctionError(f"a1 and a2 of the {name} must lie in the xy plane: transport is along z")
            asymmetry = part.asymmetry()
            if asymmetry > self.symmetry_tolerance * part.strongest:
                raise JunctionError(
                    f"the force constants of the {name} are not symmetric: phi_ij(R) and phi_ji(-R)^T differ by "
                    f"{asymmetry:.3g} eV/A^2 (allowed: {self.symmetry_tolerance * part.strongest:.3g}); symmetrise them "
                    "before building the junction, or find out which calculation they came from"
                )
        for name in ("left", "right"):
            lead: PairForceConstants = getattr(self, name)
            reach = int(np.abs(lead.R[:, 2]).max())
            if reach > 1:
                raise JunctionError(
                    f"the principal layer of the {name} lead is shorter than the force range: atoms couple to layer {reach}. "
                    f"Use a layer of at least {reach} of these cells (thickness {reach * abs(lead.cell[2, 2]):.4g} A)"
                )
            if lead.cell[2, 2] <= 0:
                raise JunctionError(f"the third cell vector of the {name} lead must point along +z")
        if np.any(self.device.R[:, 2] != 0):
            raise JunctionError("the device must be finite along z: all its R3 must be 0")
        if self.device.n_atoms < self.left.n_atoms + self.right.n_atoms:
            raise JunctionError(
                f"the device has {self.device.n_atoms} atoms; it must hold one principal layer of either lead "
                f"({self.left.n_atoms} + {self.right.n_atoms} atoms)"
            )
        first, last = self.device.masses[: self.left.n_atoms], self.device.masses[-self.right.n_atoms :]
        if not (np.allclose(first, self.left.masses, rtol=1e-6) and np.allclose(last, self.right.masses, rtol=1e-6)):
            raise JunctionError(
                "the first and last atoms of the device must be a principal layer of the left and right lead: the masses differ"
            )

    @property
    def area(self) -> float:
        """In-plane cell area, Angstrom^2."""
        a1, a2 = self.left.cell[:2]
        return float(np.linalg.norm(np.cross(a1, a2)))

    @property
    def softer_side(self) -> str:
        """The lead with the lower top frequency, ``"left"`` or ``"right"`` (left where they are equal)."""
        left, right = self.top_frequencies
        return "left" if left <= right else "right"

    @cached_property
    def top_frequencies(self) -> tuple[float, float]:
        """Largest frequency of the left and of the right lead over the full zone, THz.

        Raises
        ------
        UnstableLeadError
            If a lead has an imaginary frequency beyond 1e-3 of its largest frequency.
        """
        tops = []
        for name in ("left", "right"):
            lowest, highest, q = getattr(self, name).zone_extrema()
            if lowest < -1e-6 * highest:
                raise UnstableLeadError(
                    f"the {name} lead is unstable: frequency {units.w2_to_thz(lowest):.4g} THz (negative: imaginary) at "
                    f"q = ({q[0]:.4g}, {q[1]:.4g}, {q[2]:.4g}) of its reciprocal cell. Relax the crystal, or check the "
                    "potential and the supercell of its force constants"
                )
            tops.append(float(units.w2_to_thz(highest)))
        return tops[0], tops[1]

    def block_mismatch(self) -> tuple[float, float]:
        """Largest difference between the device's outer principal layers and the leads, eV/Angstrom^2.

        The couplings inside the outermost layer are compared with the lead's ``R3 = 0`` block and, where another layer fits
        between the two outermost ones, its couplings to the rest of the device with the lead's block to the next layer.

        Returns
        -------
        left, right : float
        """
        return outer_mismatch(self.left, self.right, self.device)

    def sum_rule_error(self) -> float:
        """Acoustic sum rule of the stitched system, eV/Angstrom^2.

        Rows of [lead coupling | device | lead coupling] are summed for every device atom; leads are summed on their own.
        """
        total = np.zeros((self.device.n_atoms, 3, 3))
        np.add.at(total, self.device.i, self.device.phi)
        down = self.left.R[:, 2] == -1
        np.add.at(total, self.left.i[down], self.left.phi[down])
        up = self.right.R[:, 2] == 1
        np.add.at(total, self.device.n_atoms - self.right.n_atoms + self.right.i[up], self.right.phi[up])
        return max(float(np.abs(total).max()), self.left.sum_rule_error(), self.right.sum_rule_error())

    def reversed(self) -> Junction:
        """The same junction turned upside down (rotated by pi about the x axis): leads exchanged."""
        turn = np.diag([1.0, -1.0, -1.0])

        def turned(part: PairForceConstants, order: NDArray[np.intp]) -> PairForceConstants:
            rank = np.empty_like(order)
            rank[order] = np.arange(len(order))
            cell = part.cell @ turn
            cell[2] *= -1
            flip = np.array([1, 1, -1])
            phi = turn @ part.phi @ turn
            return PairForceConstants(
                cell, (part.positions @ turn)[order], part.masses[order], rank[part.i], rank[part.j], part.R * flip, phi
            )

        def same(part: PairForceConstants) -> NDArray[np.intp]:
            return np.arange(part.n_atoms)

        n_l, n_r, n_d = self.left.n_atoms, self.right.n_atoms, self.device.n_atoms
        order = np.concatenate([np.arange(n_d - n_r, n_d), np.arange(n_l, n_d - n_r), np.arange(n_l)])
        return Junction(
            turned(self.right, same(self.right)),
            turned(self.left, same(self.left)),
            turned(self.device, order),
            self.symmetry_tolerance,
        )

    def to_arrays(self) -> dict[str, NDArray]:
        """The junction as named arrays ``X_cell, X_pos, X_mass, X_i, X_j, X_R, X_phi`` for X in L, R, D."""
        arrays = {}
        for letter, name in _PARTS.items():
            part: PairForceConstants = getattr(self, name)
            values = (part.cell, part.positions, part.masses, part.i, part.j, part.R, part.phi)
            arrays.update({f"{letter}_{key}": value for key, value in zip(_ARRAYS, values, strict=True)})
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray], source: str = "the arrays") -> Junction:
        """Rebuild a junction from :meth:`to_arrays`.

        Parameters
        ----------
        arrays : dict of str to numpy.ndarray
            Shapes and units as of :class:`PairForceConstants` (Angstrom, amu, eV/Angstrom^2).
        source : str
            Where they come from, for error messages.

        Returns
        -------
        Junction

        Raises
        ------
        JunctionError
            If an array is missing or the parts do not fit.
        """
        missing = [f"{x}_{key}" for x in _PARTS for key in _ARRAYS if f"{x}_{key}" not in arrays]
        if missing:
            raise JunctionError(f"{source} is not a junction: {', '.join(missing)} missing")
        parts = {}
        for letter, name in _PARTS.items():
            try:
                parts[name] = PairForceConstants(*(np.asarray(arrays[f"{letter}_{key}"]) for key in _ARRAYS))
            except (ForceConstantsError, ValueError, TypeError) as error:
                raise JunctionError(f"{source}: {name}: {error}") from error
        return cls(parts["left"], parts["right"], parts["device"])

    def to_npz(self, path: str | Path) -> Path:
        """Write the junction to a compressed numpy file, whole or not at all.

        Parameters
        ----------
        path : str or pathlib.Path
            ``.npz`` is added where it is missing.

        Returns
        -------
        pathlib.Path
            The absolute path written.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        path = Path(path).expanduser().resolve()
        if path.suffix != ".npz":
            path = path.with_name(path.name + ".npz")
        temporary = path.with_name(path.name + ".part.npz")
        try:
            np.savez_compressed(temporary, **self.to_arrays())  # type: ignore[arg-type]
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return path

    @classmethod
    def from_npz(cls, path: str | Path) -> Junction:
        """Read a junction from a numpy file written by :meth:`to_npz`.

        Parameters
        ----------
        path : str or pathlib.Path

        Returns
        -------
        Junction

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        JunctionError
            If the file is not a numpy archive or does not hold a junction.
        """
        path = Path(path).expanduser().resolve()
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except FileNotFoundError:
            raise FileNotFoundError(f"no junction file {path}") from None
        except (ValueError, TypeError, AttributeError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            raise JunctionError(f"{path} is not a junction file (numpy .npz archive): {error}") from error
        return cls.from_arrays(arrays, source=str(path))


def outer_mismatch(
    left: PairForceConstants, right: PairForceConstants, device: PairForceConstants
) -> tuple[float, float]:
    """Largest difference between rows of a device's outer principal layers and of the leads, eV/Angstrom^2.

    Only the rows of the outer layers are looked at; see :meth:`Junction.block_mismatch`.
    """
    n_l, n_r, n_d = left.n_atoms, right.n_atoms, device.n_atoms
    merged = device.merged
    room = n_d - n_l - n_r
    mismatch = []
    for lead, start, next_start, forward in ((left, 0, n_l, 1), (right, n_d - n_r, n_d - 2 * n_r, -1)):
        has_next = room >= lead.n_atoms
        own = (merged.i >= start) & (merged.i < start + lead.n_atoms)
        if not has_next:
            own &= (merged.j >= start) & (merged.j < start + lead.n_atoms)
        inside, onward = lead.R[:, 2] == 0, (lead.R[:, 2] == forward) & has_next
        in_plane = lead.R * [1, 1, 0]
        difference = PairForceConstants(
            merged.cell,
            merged.positions,
            merged.masses,
            np.concatenate([merged.i[own], start + lead.i[inside], start + lead.i[onward]]),
            np.concatenate([merged.j[own], start + lead.j[inside], next_start + lead.j[onward]]),
            np.concatenate([merged.R[own], in_plane[inside], in_plane[onward]]),
            np.concatenate([merged.phi[own], -lead.phi[inside], -lead.phi[onward]]),
        ).merged
        # self terms follow from the sum rule
        mismatch.append(float(np.abs(difference.phi[~difference.is_self]).max(initial=0.0)))
    return mismatch[0], mismatch[1]

"""The limit of low frequencies of a junction: elastic waves in two anisotropic crystals joined in a plane.

For omega -> 0 at fixed in-plane slowness s = q/omega the transmission of a junction depends on s alone. Each lead is then an
elastic half-space, described by the Christoffel coefficients of its long waves, and the device is a plane that transmits
displacements and forces. What remains of the device is one antisymmetric matrix per in-plane direction (first order in q, as
the tractions themselves); for force constants that do not change under rotations it is what makes the tractions those of
elasticity theory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermal_flows import units
from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.junctions.junction import Junction
from thermal_flows.transport.models.acoustic import low_temperature_coefficient, panels
from thermal_flows.transport.models.elastic import LongWaves, christoffel_of, full_tensor

_EVANESCENT = 1e-9
"""Relative imaginary part of a vertical slowness above which a wave is evanescent (real matrices: otherwise round-off)."""

_SCAN = 96
_BISECTIONS = 46
_HALVINGS = 16
_MAX_DIRECTIONS = 1024


@dataclass(frozen=True, eq=False)
class WeldedInterface:
    """Two elastic half-spaces, left below and right above the plane z = 0.

    Attributes
    ----------
    density : tuple of float
        Of the left and right half-space, kg/m3.
    christoffel : tuple of numpy.ndarray, shape (3, 3, 3, 3)
        As :attr:`LongWaves.christoffel`, GPa.
    twist : numpy.ndarray, shape (2, 3, 3)
        Antisymmetric matrices, GPa: the traction T s_z + R of the right half-space exceeds that of the left one by
        ``(s_x twist[0] + s_y twist[1]) u``.
    """

    density: tuple[float, float]
    christoffel: tuple[NDArray[np.float64], NDArray[np.float64]]
    twist: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 3, 3)))

    @classmethod
    def from_elastic_tensors(
        cls, left: ArrayLike, density_left: float, right: ArrayLike, density_right: float
    ) -> WeldedInterface:
        """Welded plane of elasticity theory between two crystals, their axes turned as they meet (normal along z).

        Parameters
        ----------
        left, right : array_like, shape (6, 6) or (3, 3, 3, 3)
            Elastic constants, GPa.
        density_left, density_right : float
            kg/m3.

        Raises
        ------
        TransportError
            If these are not elastic tensors or a density is not positive.
        """
        for density in (density_left, density_right):
            if not np.isfinite(density) or density <= 0:
                raise TransportError(f"a density must be positive, in kg/m3; got {density!r}")
        tensors = full_tensor(np.asarray(left, dtype=float)), full_tensor(np.asarray(right, dtype=float))
        # traction C_izjb s_b u_j = (symmetric part as in christoffel) + antisymmetric part
        parts = [np.stack([_antisymmetric(C[:, 2, :, b]) for b in (0, 1)]) for C in tensors]
        stiffness = christoffel_of(tensors[0]), christoffel_of(tensors[1])
        return cls((float(density_left), float(density_right)), stiffness, parts[0] - parts[1])

    @classmethod
    def from_junction(cls, junction: Junction) -> WeldedInterface:
        """The exact limit of a junction's force constants.

        Parameters
        ----------
        junction : Junction

        Raises
        ------
        TransportError
            If a lead is not an elastic solid in three dimensions, or the device does not hold the leads together.
        """
        waves = LongWaves.from_force_constants(junction.left), LongWaves.from_force_constants(junction.right)
        _check_contact(junction)
        device = junction.device
        moment = np.einsum("kb,kij->bij", device.vectors[:, :2], device.phi)
        for lead, side in ((junction.left, -1), (junction.right, 1)):
            at = lead.R[:, 2] == side
            moment += np.einsum("kb,kij->bij", lead.vectors[at, :2], lead.phi[at])
        per_area = units.GPA_PER_EV_A3 / junction.area
        twist = moment * per_area
        twist += _traction_twist(junction.left, waves[0]) * per_area
        twist -= _traction_twist(junction.right, waves[1]) * per_area
        return cls(
            (waves[0].density, waves[1].density),
            (waves[0].christoffel, waves[1].christoffel),
            np.stack([_antisymmetric(m) for m in twist]),
        )

    def transmission(self, slowness: ArrayLike) -> NDArray[np.float64]:
        """Sum over modes of the transmittance at given in-plane slownesses.

        Parameters
        ----------
        slowness : array_like, shape (..., 2)
            Wave vector over angular frequency along x and y, s/m; the transmission is even in it.

        Returns
        -------
        numpy.ndarray, shape (...,)

        Raises
        ------
        TransportError
            If the last axis does not hold two components.

        Notes
        -----
        At zero it is 4 Tr[Z1 (Z1+Z2)^-1 Z2 (Z1+Z2)^-1] with the acoustic impedances Z = sqrt(rho C_zz). A. N. Stroh, J. Math.
        Phys. 41, 77 (1962), for the waves of either half-space.
        """
        s = np.asarray(slowness, dtype=float)
        if s.shape[-1:] != (2,):
            raise TransportError(f"slowness must have two components along its last axis; its shape is {s.shape}")
        flat = s.reshape(-1, 2) * self._unit_speed
        left, right = self._half_spaces()
        down, up = left.outgoing(flat, up=False), right.outgoing(flat, up=True)
        twist = np.einsum("nb,bij->nij", flat, self.twist / self._unit_stiffness)
        inverse = np.linalg.inv(down + up - twist)
        gamma_l, gamma_r = down + down.conj().swapaxes(1, 2), up + up.conj().swapaxes(1, 2)
        result = np.einsum("nij,njk,nkl,nil->n", gamma_r, inverse, gamma_l, inverse.conj()).real
        return result.reshape(s.shape[:-1])

    def channels(self, rtol: float = 1e-4) -> tuple[float, float]:
        """Integral of the transmission over d2s / (2 pi)^2, s2/m2, and an estimate of its error.

        Along each direction the intervals between critical slownesses (where the number of waves changes in either crystal) are
        integrated by Gauss's rule and halved around resonances; the number of directions is doubled until the integral stays
        within ``rtol``.

        Parameters
        ----------
        rtol : float
            Relative tolerance.

        Raises
        ------
        TransportError
            If 1024 directions are not enough.
        """
        n = 16
        value, inner = self._rays(np.arange(n, dtype=float), n, rtol)
        while True:
            new, new_inner = self._rays(np.arange(n) + 0.5, n, rtol)
            change = abs(new - value) / 2
            value, inner, n = 0.5 * (value + new), 0.5 * (inner + new_inner), 2 * n
            error = float(change + inner)
            if error <= rtol * value:
                return value / self._unit_speed**2, error / self._unit_speed**2
            if n >= _MAX_DIRECTIONS:
                raise TransportError(
                    f"the acoustic limit is known to {error / value:.2g} after {n} directions, not to rtol = {rtol:.2g}: "
                    "ask for less"
                )

    def _rays(self, index: NDArray, n: int, rtol: float) -> tuple[float, float]:
        """Mean over directions of the integral along each, in units of 1 / speed^2, and the sum of its local errors."""
        angles = np.pi * (index + 0.1234) / n  # off the axes, where crystals have degenerate waves
        rays = np.column_stack([np.cos(angles), np.sin(angles)])
        starts, ends, ray = self._intervals(rays)
        whole, total, error = float((ends**2 - starts**2).sum()), 0.0, 0.0
        for level in range(_HALVINGS + 1):
            sums = []
            for n_nodes in (8, 16):
                s, weights = panels(starts, ends, n_nodes)
                points = s[:, :, None] * rays[ray][:, None, :] / self._unit_speed
                sums.append((self.transmission(points) * weights * s).sum(axis=1))
            doubt = np.abs(sums[1] - sums[0])
            # the coarser rule is far worse than the finer one: a tenth of its share of the tolerance is ample
            good = (doubt <= rtol * (ends**2 - starts**2) / whole * sums[1].sum()) | (level == _HALVINGS)
            good |= doubt <= 1e-2 * rtol * (total + sums[1].sum()) / len(angles)
            total, error = total + float(sums[1][good].sum()), error + float(doubt[good].sum())
            starts, ends, ray = starts[~good], ends[~good], ray[~good]
            if len(ray) == 0:
                break
            middle = 0.5 * (starts + ends)
            starts, ends = np.concatenate([starts, middle]), np.concatenate([middle, ends])
            ray = np.concatenate([ray, ray])
        scale = 1 / (2 * np.pi * len(angles))
        return total * scale, 0.1 * error * scale

    def _intervals(
        self, rays: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
        """Intervals of slowness between changes of the number of waves, and the ray each belongs to."""
        halves = self._half_spaces()
        top = 1.02 * min(half.largest_slowness() for half in halves)
        grid = top * np.arange(_SCAN + 1) / _SCAN
        found_ray, found = [np.arange(len(rays)), np.arange(len(rays))], [np.zeros(len(rays)), np.full(len(rays), top)]
        for half in halves:
            points = grid[None, :, None] * rays[:, None, :]
            counts = half.n_waves(points.reshape(-1, 2)).reshape(len(rays), -1)
            ray, k = np.nonzero(np.diff(counts, axis=1))
            low, high, below = grid[k], grid[k + 1], counts[ray, k]
            for _ in range(_BISECTIONS):
                middle = 0.5 * (low + high)
                same = half.n_waves(middle[:, None] * rays[ray]) == below
                low, high = np.where(same, middle, low), np.where(same, high, middle)
            found_ray.append(ray)
            found.append(0.5 * (low + high))
        ray, edge = np.concatenate(found_ray), np.concatenate(found)
        order = np.lexsort((edge, ray))
        ray, edge = ray[order], edge[order]
        keep = (ray[1:] == ray[:-1]) & (edge[1:] - edge[:-1] > 1e-9 * top)
        return edge[:-1][keep], edge[1:][keep], ray[:-1][keep]

    @property
    def _unit_stiffness(self) -> float:
        return float(np.abs(self.christoffel[0]).max())

    @property
    def _unit_speed(self) -> float:
        """Velocity (m/s) that makes slownesses numbers of order one."""
        return float(np.sqrt(self._unit_stiffness * 1e9 / self.density[0]))

    def _half_spaces(self) -> tuple[_HalfSpace, _HalfSpace]:
        unit, density = self._unit_stiffness, self.density[0]
        return (
            _HalfSpace(self.density[0] / density, self.christoffel[0] / unit),
            _HalfSpace(self.density[1] / density, self.christoffel[1] / unit),
        )


@dataclass(frozen=True, eq=False)
class _HalfSpace:
    """One elastic crystal in reduced units: waves u exp(i omega (s.x - t)) with given in-plane slowness."""

    density: float
    stiffness: NDArray[np.float64]

    def _stroh(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Matrices whose eigenvalues are vertical slownesses, eigenvectors (u, traction / i omega); shape (n, 6, 6)."""
        E = self.stiffness
        T = np.linalg.inv(E[2, 2])
        R = np.einsum("na,aij->nij", s, E[2, :2])
        Q = np.einsum("na,nb,abij->nij", s, s, E[:2, :2])
        N = np.empty((len(s), 6, 6))
        N[:, :3, :3], N[:, :3, 3:] = -T @ R, T
        N[:, 3:, :3], N[:, 3:, 3:] = self.density * np.eye(3) - Q + R @ T @ R, -R @ T
        return N

    def outgoing(self, s: NDArray[np.float64], up: bool) -> NDArray:
        """Impedance Y of the waves that leave the plane (traction = Y u for up, -Y u for down), shape (n, 3, 3)."""
        values, x = np.linalg.eig(self._stroh(s))
        values, x = values.astype(complex), x.astype(complex)
        evanescent = np.abs(values.imag) > _EVANESCENT * np.abs(values).max(axis=1, keepdims=True)
        flux = (x[:, :3].conj() * x[:, 3:]).sum(axis=1).real
        sign = 1.0 if up else -1.0
        leaves = sign * np.where(evanescent, values.imag, flux) > 0
        if np.any(leaves.sum(axis=1) != 3):
            raise TransportError(
                "a slowness lies exactly at a critical angle of a crystal: choose a slightly different one"
            )
        order = np.argsort(~leaves, axis=1, kind="stable")[:, :3]
        states = np.take_along_axis(x, order[:, None, :], axis=2)
        return sign * states[:, 3:] @ np.linalg.inv(states[:, :3])

    def n_waves(self, s: NDArray[np.float64]) -> NDArray[np.intp]:
        """Number of real vertical slownesses (both directions), shape (n,)."""
        if len(s) == 0:
            return np.zeros(0, dtype=np.intp)
        values = np.linalg.eigvals(self._stroh(s))
        return (np.abs(values.imag) <= _EVANESCENT * np.abs(values).max(axis=1, keepdims=True)).sum(axis=1)

    def largest_slowness(self) -> float:
        """A slowness that no in-plane slowness of a propagating wave exceeds by more than 2 %."""
        k = 2 * np.pi * np.arange(64) / 64
        z = np.linspace(0, 1, 33)  # the waves of -k are those of k
        across = np.sqrt(1 - z**2)
        n = np.stack([np.outer(across, np.cos(k)), np.outer(across, np.sin(k)), np.outer(z, np.ones(64))], axis=-1)
        n = n.reshape(-1, 3)
        stiffness = np.linalg.eigvalsh(np.einsum("na,nb,abij->nij", n, n, self.stiffness))[:, 0]
        return float((np.linalg.norm(n[:, :2], axis=1) / np.sqrt(stiffness / self.density)).max())


@dataclass(frozen=True)
class AcousticLimit:
    """Low-temperature limit of a junction's conductance.

    Attributes
    ----------
    coefficient, error : float
        lim G / T^3 for T -> 0 and the error of the integral over slownesses, MW/(m2 K4).
    normal_incidence : float
        Transmission at q = 0 for omega -> 0.
    interface : WeldedInterface
        What was integrated.
    """

    coefficient: float
    error: float
    normal_incidence: float
    interface: WeldedInterface

    def conductance(self, temperatures: ArrayLike) -> NDArray[np.float64]:
        """``coefficient`` times T^3, MW/(m2 K), shape (nT,); the junction's own value for T -> 0.

        Raises
        ------
        TransportError
            If a temperature is not positive.
        """
        temperatures = np.atleast_1d(np.asarray(temperatures, dtype=float))
        if not np.all(np.isfinite(temperatures) & (temperatures > 0)):
            raise TransportError(f"temperatures must be positive, in K; got {temperatures.tolist()}")
        return self.coefficient * temperatures**3


def acoustic_limit(junction: Junction | WeldedInterface, rtol: float = 1e-4) -> AcousticLimit:
    """Limit of G / T^3 for T -> 0, from elastic waves in both (anisotropic) leads.

    Parameters
    ----------
    junction : Junction or WeldedInterface
        A junction gives the exact limit of its force constants; two crystals given by their elastic constants are joined by
        :meth:`WeldedInterface.from_elastic_tensors`.
    rtol : float
        Relative tolerance of the integral over in-plane slownesses.

    Returns
    -------
    AcousticLimit

    Raises
    ------
    TransportError
        If a lead is not an elastic solid in three dimensions, the device does not hold the leads together, or ``rtol`` is not
        reached.

    Notes
    -----
    The full solver approaches it where kB T / h is small against the frequencies at which a wavelength meets the structure of
    the device: the layers' thickness, and for weak contacts (contact stiffness per area) / (acoustic impedance).
    """
    if not 0 < rtol < 1:
        raise TransportError(f"rtol must lie between 0 and 1, got {rtol!r}")
    interface = junction if isinstance(junction, WeldedInterface) else WeldedInterface.from_junction(junction)
    channels, error = interface.channels(rtol)
    return AcousticLimit(
        low_temperature_coefficient(channels),
        low_temperature_coefficient(error),
        float(interface.transmission(np.zeros(2))),
        interface,
    )


def _antisymmetric(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (matrix - matrix.T)


def _traction_twist(lead: PairForceConstants, waves: LongWaves) -> NDArray[np.float64]:
    """Antisymmetric part of the force through the plane between two layers, per in-plane derivative; eV/A, shape (2, 3, 3).

    Only the relaxation inside the cells enters: the affine part of the displacement is counted with the device.
    """
    up = lead.R[:, 2] == 1
    i, j, phi = lead.i[up], lead.j[up], lead.phi[up]
    traction = np.einsum("kij,bkjl->bil", phi.swapaxes(1, 2), waves.relaxation[:2, i])
    traction -= np.einsum("kij,bkjl->bil", phi, waves.relaxation[:2, j])
    return np.stack([_antisymmetric(t) for t in traction])


def _check_contact(junction: Junction) -> None:
    """Refuse a device that does not hold the leads together: its low-frequency transmission vanishes in some polarisation."""
    device, n_r = junction.device, junction.right.n_atoms
    H = np.zeros((device.n_atoms, device.n_atoms, 3, 3))
    np.add.at(H, (device.i, device.j), device.phi)
    pulls = []
    for lead, side, start in ((junction.left, -1, 0), (junction.right, 1, device.n_atoms - n_r)):
        pull = np.zeros((device.n_atoms, 3, 3))
        at = lead.R[:, 2] == side
        np.add.at(pull, start + lead.i[at], lead.phi[at])
        pulls.append(pull.reshape(-1, 3))
    clamped = H.transpose(0, 2, 1, 3).reshape(3 * device.n_atoms, -1)
    # force on the clamped left lead when the clamped right lead is moved
    stiffness = pulls[0].T @ np.linalg.pinv(0.5 * (clamped + clamped.T), rcond=1e-12, hermitian=True) @ pulls[1]
    if np.linalg.svd(stiffness, compute_uv=False)[-1] < 1e-9 * device.strongest:
        raise TransportError(
            "the device does not hold the two leads together in every direction: the transmission of long waves has no "
            "welded limit"
        )

"""Common in-plane cells of two crystals: the coincidence lattices of Zur and McGill, doi:10.1063/1.333084."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thermal_flows.structures.integers import common_divisor_of_minors, hermite_normal_form
from thermal_flows.structures.matching import basis_from_metric, deformation, gauss_reduced

Float = NDArray[np.float64]
IntMatrix = tuple[tuple[int, int], tuple[int, int]]
Strained = Literal["film", "substrate", "both"]

IDENTITY: IntMatrix = ((1, 0), (0, 1))


@dataclass(frozen=True)
class Match:
    """One common in-plane cell of substrate and film.

    Attributes
    ----------
    substrate, film : tuple of tuple of int
        Rows: the common a1 and a2 in terms of each side's own primitive in-plane basis (``OrientedCell.in_plane``).
    area : float
        Area of the common cell in Angstrom^2.
    substrate_strain, film_strain : tuple of float
        Principal engineering strains that bring either side to the common cell, ascending; positive is tensile.
    rotation_deg : float
        Turn of the film about +z relative to the substrate, in degrees, counter-clockwise, both seen in their oriented cells.
    canonical : tuple of tuple of int
        The two rows [substrate | film] in a form that is the same for every basis of the common cell and for all turns by
        which the symmetry of either side makes matches equal.
    """

    substrate: IntMatrix
    film: IntMatrix
    area: float
    substrate_strain: tuple[float, float]
    film_strain: tuple[float, float]
    rotation_deg: float
    canonical: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def cells(self) -> tuple[int, int]:
        """Primitive in-plane cells of substrate and film in the common cell."""
        return determinant(self.substrate), determinant(self.film)

    @property
    def largest_strain(self) -> float:
        """Largest magnitude of a principal strain of either side."""
        return float(np.abs([*self.substrate_strain, *self.film_strain]).max())

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for documents."""
        plain = asdict(self)
        for name in ("substrate", "film", "canonical"):
            plain[name] = [list(row) for row in plain[name]]
        for name in ("substrate_strain", "film_strain"):
            plain[name] = list(plain[name])
        return plain

    def __str__(self) -> str:
        return (
            f"{self.area:.1f} A^2 ({self.cells[0]}:{self.cells[1]} cells, film turned {self.rotation_deg:.2f} deg) "
            f"at {100 * self.largest_strain:.2f} %"
        )


def determinant(matrix: IntMatrix) -> int:
    """Determinant of an integer (2, 2) matrix."""
    return matrix[0][0] * matrix[1][1] - matrix[0][1] * matrix[1][0]


def as_matrix(rows: Any) -> IntMatrix:
    """An integer (2, 2) matrix as tuples."""
    (a, b), (c, d) = (tuple(int(x) for x in row) for row in rows)
    return (a, b), (c, d)


def common_basis(own_substrate: Float, own_film: Float, strain: Strained) -> Float:
    """In-plane vectors of the common cell, a1 along +x.

    Parameters
    ----------
    own_substrate, own_film : numpy.ndarray
        (2, 2) unstrained rows of either side that are to coincide, Angstrom.
    strain : {"film", "substrate", "both"}
        Side that is strained; "both" takes the mean of the two metric tensors.
    """
    if strain == "both":
        return basis_from_metric(0.5 * (own_substrate @ own_substrate.T + own_film @ own_film.T))
    kept = own_substrate if strain == "film" else own_film
    return kept if kept[0, 1] == 0 and kept[0, 0] > 0 else basis_from_metric(kept @ kept.T)


def canonical_rows(
    substrate: IntMatrix,
    film: IntMatrix,
    substrate_group: list[NDArray[np.intp]],
    film_group: list[NDArray[np.intp]],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The smallest Hermite form of [substrate | film] over the plane groups of both sides; see :class:`Match`."""
    one, two = np.array(substrate), np.array(film)
    forms = []
    for handed in (1, -1):  # a mirrored pair is the same pair where either side has a mirror plane
        ours = [one @ g for g in substrate_group if round(np.linalg.det(g)) == handed]
        theirs = [two @ g for g in film_group if round(np.linalg.det(g)) == handed]
        forms += [hermite_normal_form(np.hstack(pair).tolist()) for pair in product(ours, theirs)]
    return min(forms)


def describe(
    substrate: IntMatrix,
    film: IntMatrix,
    bases: tuple[Float, Float],
    groups: tuple[list[NDArray[np.intp]], list[NDArray[np.intp]]],
    strain: Strained,
) -> Match:
    """A match from its matrices.

    Parameters
    ----------
    substrate, film : tuple of tuple of int
        Matrices of positive determinant.
    bases : tuple of numpy.ndarray
        (2, 2) in-plane bases of the oriented cells, Angstrom.
    groups : tuple of lists
        Plane groups of both sides; see :func:`thermal_flows.structures.symmetry.plane_group`.
    strain : {"film", "substrate", "both"}
    """
    own = np.array(substrate) @ bases[0], np.array(film) @ bases[1]
    common = common_basis(*own, strain)
    sides = [deformation(side, common) for side in own]
    turn = (sides[1].rotation_deg - sides[0].rotation_deg + 180.0) % 360.0 - 180.0
    below, above = (tuple(float(x) for x in side.principal) for side in sides)
    return Match(
        substrate=substrate,
        film=film,
        area=float(abs(np.linalg.det(common))),
        substrate_strain=(below[0], below[1]),
        film_strain=(above[0], above[1]),
        rotation_deg=turn if abs(turn) > 1e-9 else 0.0,
        canonical=canonical_rows(substrate, film, *groups),
    )


_UNIMODULAR = np.array(
    [[[a, b], [c, d]] for a, b, c, d in product((-1, 0, 1), repeat=4) if a * d - b * c == 1], dtype=np.intp
)
"""Changes of basis between two reduced bases of nearly equal lattices, without reflection."""


def _side_strains(stretches: Float, strain: Strained) -> Float:
    """Largest principal strain, given the principal stretches (..., 2) that take the film to the substrate."""
    if strain == "film":
        strains = stretches - 1
    elif strain == "substrate":
        strains = 1 / stretches - 1
    else:
        shared = np.sqrt(0.5 * (1 + stretches**2))
        strains = np.concatenate([shared - 1, shared / stretches - 1], axis=-1)
    return np.asarray(np.abs(strains).max(axis=-1))


def _stretches(gradients: Float) -> Float:
    """Singular values (..., 2) of (..., 2, 2) matrices, ascending."""
    total = (gradients**2).sum(axis=(-2, -1))
    twice = 2 * np.abs(np.linalg.det(gradients))
    summed, apart = np.sqrt(total + twice), np.sqrt(np.maximum(total - twice, 0.0))
    return np.stack([0.5 * (summed - apart), 0.5 * (summed + apart)], axis=-1)


class _Sublattices:
    """Reduced bases of the sublattices of one side, by their index."""

    def __init__(self, basis: Float) -> None:
        self._basis = basis
        self._known: dict[int, tuple[NDArray[np.intp], Float]] = {}

    def of(self, transformations: list[Float]) -> tuple[NDArray[np.intp], Float]:
        """Matrices (n, 2, 2) and bases (n, 2, 2) in Angstrom, reduced, of a ZSL transformation set."""
        index = round(float(np.linalg.det(transformations[0])))
        if index not in self._known:
            raw = [np.rint(t).astype(np.intp) for t in transformations]
            matrices = np.array([gauss_reduced(m @ self._basis) @ m for m in raw])
            self._known[index] = matrices, matrices @ self._basis
        return self._known[index]


def _turn(match: Match) -> tuple[float, bool]:
    """Small turns first, counter-clockwise of two."""
    return round(abs(match.rotation_deg), 6), match.rotation_deg < 0


def coincidences(
    bases: tuple[Float, Float],
    groups: tuple[list[NDArray[np.intp]], list[NDArray[np.intp]]],
    *,
    strain: Strained = "film",
    max_area: float,
    max_strain: float,
) -> list[Match]:
    """All common cells of two in-plane lattices up to an area and a strain.

    Parameters
    ----------
    bases : tuple of numpy.ndarray
        (2, 2) right-handed in-plane bases of substrate and film, Angstrom.
    groups : tuple of lists
        Plane groups of both sides.
    strain : {"film", "substrate", "both"}
        Side that is strained.
    max_area : float
        Largest area of the common cell, Angstrom^2.
    max_strain : float
        Largest magnitude of a principal strain.

    Returns
    -------
    list of Match
        By area, then strain, then turn. Of matches that the symmetry of either side makes equal one is listed, that with
        the smallest turn. Multiples of a smaller match are left out.

    Notes
    -----
    pymatgen's ``ZSLGenerator`` enumerates the pairs of sublattices. Whether two coincide is decided here by their principal
    strains, without reflection; ZSL's own comparison of lengths and angles also takes mirror images for matches.
    """
    from pymatgen.analysis.interfaces.zsl import ZSLGenerator

    areas = [float(abs(np.linalg.det(basis))) for basis in bases]
    stretch = (1 + max_strain) ** 2
    generator = ZSLGenerator(
        # the ratio of the areas is off by no more than the strains allow
        max_area_ratio_tol=(stretch - 1) * 1.5 * max(areas[0] / areas[1], areas[1] / areas[0]),
        # ZSL's limit is not included
        max_area=max_area * stretch * (1 + 1e-9) + 1e-6 * min(areas),
    )
    below, above = (_Sublattices(basis) for basis in bases)
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], Match] = {}
    for film_set, substrate_set in generator.generate_sl_transformation_sets(areas[1], areas[0]):  # type: ignore[arg-type]
        m_s, b_s = below.of(list(substrate_set))
        m_f, b_f = above.of(list(film_set))
        # successive minima change by no more than the principal stretches
        lengths_s, lengths_f = np.linalg.norm(b_s, axis=2), np.linalg.norm(b_f, axis=2)
        ratio = lengths_s[:, None] / lengths_f[None]
        limit = 1 + 2 * max_strain + 1e-9
        i, j = np.nonzero(np.all((ratio < limit) & (ratio > 1 / limit), axis=2))
        if len(i) == 0:
            continue
        turned = _UNIMODULAR[None] @ b_f[j][:, None]
        gradients = b_s[i][:, None].transpose(0, 1, 3, 2) @ np.linalg.inv(turned.transpose(0, 1, 3, 2))
        stretches = _stretches(gradients)
        for k, turn in zip(*np.nonzero(_side_strains(stretches, strain) <= max_strain), strict=True):
            substrate, film = as_matrix(m_s[i[k]]), as_matrix(_UNIMODULAR[turn] @ m_f[j[k]])
            if common_divisor_of_minors(np.hstack([substrate, film]).tolist()) != 1:
                continue
            match = describe(substrate, film, bases, groups, strain)
            if match.area <= max_area * (1 + 1e-9):
                known = found.setdefault(match.canonical, match)
                found[match.canonical] = min(known, match, key=_turn)
    return sorted(
        found.values(),
        key=lambda m: (round(m.area, 4), round(m.largest_strain, 7), round(abs(m.rotation_deg), 4), m.canonical),
    )

"""Exact integer algebra of lattices: Miller indices, bases of planes, centred lattices."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from thermal_flows.structures.errors import StructureError

IntVector = tuple[int, int, int]
FractionVector = tuple[Fraction, Fraction, Fraction]


def extended_gcd(a: int, b: int) -> tuple[int, int, int]:
    """Greatest common divisor g and integers p, q with p a + q b = g >= 0."""
    old, new = (a, 1, 0), (b, 0, 1)
    while new[0]:
        quotient = old[0] // new[0]
        old, new = new, (old[0] - quotient * new[0], old[1] - quotient * new[1], old[2] - quotient * new[2])
    return old if old[0] >= 0 else (-old[0], -old[1], -old[2])


def miller_indices(miller: Sequence[int]) -> IntVector:
    """Three coprime Miller indices of three, or of four hexagonal (h k i l) ones.

    Parameters
    ----------
    miller : sequence of int
        (h, k, l), or Miller-Bravais indices (h, k, i, l) with i = -(h + k).

    Returns
    -------
    tuple of int
        Coprime (h, k, l): (0, 0, 2) and (0, 0, 1) are the same stack of planes.

    Raises
    ------
    StructureError
        If they are not three or four integers, all zero, or i differs from -(h + k).
    """
    try:
        indices = [int(index) for index in miller]
        exact = all(index == given for index, given in zip(indices, miller, strict=True))
    except (TypeError, ValueError) as error:
        raise StructureError(f"Miller indices must be integers such as (0, 0, 1); got {miller!r}") from error
    if not exact:
        raise StructureError(f"Miller indices must be integers such as (0, 0, 1); got {miller!r}")
    if len(indices) == 4:
        if indices[2] != -(indices[0] + indices[1]):
            raise StructureError(f"Miller-Bravais indices (h, k, i, l) need i = -(h + k); got {tuple(indices)}")
        del indices[2]
    if len(indices) != 3:
        raise StructureError(f"three Miller indices (h, k, l) or four (h, k, i, l) are needed; got {miller!r}")
    divisor = gcd(*indices)
    if divisor == 0:
        raise StructureError("Miller indices (0, 0, 0) name no plane")
    return (indices[0] // divisor, indices[1] // divisor, indices[2] // divisor)


def coprime(vector: FractionVector) -> IntVector:
    """Shortest integer vector with the direction of a rational vector that is not zero."""
    scale = lcm(*(component.denominator for component in vector))
    integers = [int(component * scale) for component in vector]
    divisor = gcd(*integers)
    return (integers[0] // divisor, integers[1] // divisor, integers[2] // divisor)


def plane_basis(h: IntVector) -> tuple[IntVector, IntVector, IntVector]:
    """Basis of the integer lattice adapted to the planes n . h = constant.

    Parameters
    ----------
    h : tuple of int
        Coprime indices with respect to the same (primitive) basis as the result.

    Returns
    -------
    k1, k2, n3 : tuple of int
        k1 and k2 span all integer vectors with n . h = 0; n3 . h = 1. Together they span the whole
        integer lattice (determinant +1 or -1).
    """
    if h[0] == h[1] == 0:
        return (1, 0, 0), (0, 1, 0), (0, 0, h[2])
    g, p, q = extended_gcd(h[0], h[1])
    _, r, s = extended_gcd(g, h[2])
    return (h[1] // g, -h[0] // g, 0), (-p * h[2], -q * h[2], g), (p * r, q * r, s)


def primitive_basis(translations: Sequence[FractionVector]) -> tuple[FractionVector, FractionVector, FractionVector]:
    """Basis of the lattice spanned by the unit vectors and rational centring translations.

    Parameters
    ----------
    translations : sequence of three Fractions
        Centring translations in units of the conventional lattice vectors.

    Returns
    -------
    tuple of three vectors
        Rows of a triangular (Hermite normal form) basis, exact.
    """
    scale = lcm(*(component.denominator for vector in translations for component in vector), 1)
    rows = [[scale if i == j else 0 for j in range(3)] for i in range(3)]
    rows += [[int(component * scale) for component in vector] for vector in translations]
    basis = []
    for column in range(3):
        # Euclid on this column: one row keeps the gcd, the others vanish there
        while True:
            candidates = [row for row in rows if row[column]]
            pivot = min(candidates, key=lambda row: abs(row[column]))
            others = [row for row in candidates if row is not pivot]
            if not others:
                break
            for row in others:
                quotient = row[column] // pivot[column]
                row[:] = [a - quotient * b for a, b in zip(row, pivot, strict=True)]
        rows = [row for row in rows if row is not pivot]
        sign = 1 if pivot[column] > 0 else -1
        x, y, z = (Fraction(sign * component, scale) for component in pivot)
        basis.append((x, y, z))
    return basis[0], basis[1], basis[2]


def inverse_unimodular(rows: Sequence[IntVector]) -> list[list[int]]:
    """Exact inverse of a 3x3 integer matrix of determinant +1 or -1.

    Raises
    ------
    ValueError
        If the determinant is something else.
    """
    (a, b, c), (d, e, f), (g, h, i) = rows
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    if abs(determinant) != 1:
        raise ValueError(f"determinant {determinant}: not a change of basis of the same lattice")
    adjugate = [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ]
    return [[determinant * component for component in row] for row in adjugate]


def sublattice_points(matrix: Sequence[Sequence[int]]) -> NDArray[np.intp]:
    """Points of the square lattice inside one cell of a sublattice.

    Parameters
    ----------
    matrix : (2, 2) integers
        Rows: the vectors of the sublattice cell. The determinant must not be zero.

    Returns
    -------
    numpy.ndarray of int, shape (abs(det), 2)
        All n with n = x matrix and 0 <= x < 1, sorted by x; the first is (0, 0).
    """
    (a, b), (c, d) = ((int(x) for x in row) for row in matrix)
    determinant = a * d - b * c
    adjugate = np.array([[d, -b], [-c, a]]) * (1 if determinant > 0 else -1)
    corners = np.array([[0, 0], [a, b], [c, d], [a + c, b + d]])
    axes = [np.arange(low, high + 1) for low, high in zip(corners.min(axis=0), corners.max(axis=0), strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    scaled = points @ adjugate
    inside = np.all((scaled >= 0) & (scaled < abs(determinant)), axis=1)
    points, scaled = points[inside], scaled[inside]
    return np.asarray(points[np.lexsort(scaled.T[::-1])], dtype=np.intp)


def hermite_normal_form(rows: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Row-style Hermite normal form of two independent integer rows: one form for all bases of what they span.

    Raises
    ------
    ValueError
        If the rows are not independent.
    """
    first, second = ([int(x) for x in row] for row in rows)
    pivots = []
    for column in range(len(first)):
        while second[column]:
            quotient = first[column] // second[column]
            first, second = second, [x - quotient * y for x, y in zip(first, second, strict=True)]
        if first[column]:
            sign = 1 if first[column] > 0 else -1
            pivots.append([sign * x for x in first])
            if len(pivots) == 2:
                break
            first, second = second, [0] * len(second)
    if len(pivots) < 2:
        raise ValueError(f"the rows {rows} are not independent")
    upper, lower = pivots
    lead = next(i for i, x in enumerate(lower) if x)
    quotient = upper[lead] // lower[lead]
    return tuple(x - quotient * y for x, y in zip(upper, lower, strict=True)), tuple(lower)


def common_divisor_of_minors(rows: Sequence[Sequence[int]]) -> int:
    """Greatest common divisor of the 2x2 minors of two integer rows; 1 if they span all integer points of their plane."""
    first, second = rows
    n = len(first)
    return gcd(*(int(first[i] * second[j] - first[j] * second[i]) for i in range(n) for j in range(i + 1, n)))

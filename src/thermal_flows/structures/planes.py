"""Atomic planes of a stacking unit, and its canonical origin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cmp_to_key

import numpy as np
from numpy.typing import NDArray

FRACTIONAL_TOLERANCE = 1e-4
LENGTH_TOLERANCE = 1e-3
ROUND_OFF = 1e-9

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Termination:
    """One atomic plane at which a stack may be cut: the crystal starts with this plane.

    Attributes
    ----------
    index : int
        Number of the plane, counted upwards; 0 is the plane below which the gap is widest.
    species : tuple of str
        Chemical symbols of the atoms of the plane, per in-plane primitive cell.
    z : float
        Height in Angstrom above the plane of termination 0.
    spacing : float
        Distance in Angstrom to the next plane above (the first plane of the next unit for the last one).
    spacing_below : float
        Distance in Angstrom to the plane below, which the cut opens.
    equivalent_to : int
        The lowest plane that an operation of the crystal maps onto this one with the normal kept upwards; its own index if there
        is none lower. Equivalent planes may be turned or mirrored in the plane ((001) of diamond: by 90 degrees), so that
        on another crystal they need not make the same interface.
    """

    index: int
    species: tuple[str, ...]
    z: float
    spacing: float
    spacing_below: float
    equivalent_to: int

    @property
    def composition(self) -> str:
        """Atoms per in-plane primitive cell, for example ``Ga2 N``."""
        counts = {symbol: self.species.count(symbol) for symbol in self.species}
        return " ".join(symbol if n == 1 else f"{symbol}{n}" for symbol, n in counts.items())


def lexicographic(first: Float, second: Float) -> int:
    """Compare two arrays element by element, equal within ``FRACTIONAL_TOLERANCE``: -1, 0 or 1."""
    difference = np.ravel(first) - np.ravel(second)
    decisive = np.flatnonzero(np.abs(difference) > FRACTIONAL_TOLERANCE)
    return 0 if decisive.size == 0 else int(np.sign(difference[decisive[0]]))


def order(rows: Float) -> NDArray[np.intp]:
    """Sort rows lexicographically, equal within a tolerance: the indices (n,) that do so."""

    def compare(i: int, j: int) -> int:
        return lexicographic(rows[i], rows[j])

    return np.array(sorted(range(len(rows)), key=cmp_to_key(compare)), dtype=np.intp)


def wrap(fractional: Float) -> Float:
    """Fractional coordinates in [0, 1); values within ``FRACTIONAL_TOLERANCE`` of 1 become about 0."""
    return fractional - np.floor(fractional + FRACTIONAL_TOLERANCE)


def group_planes(z: Float, height: float, tolerance: float) -> list[NDArray[np.intp]]:
    """Atoms of each plane of a periodic stack.

    Parameters
    ----------
    z : numpy.ndarray
        Heights (n,) in Angstrom, modulo ``height``.
    height : float
        Period of the stack in Angstrom.
    tolerance : float
        Neighbouring heights closer than this belong to one plane, Angstrom.

    Returns
    -------
    list of numpy.ndarray
        Atom indices of each plane from bottom to top (cyclic), each from its lowest to its highest atom.
        One plane if no gap exceeds the tolerance; it then starts above the widest gap.
    """
    wrapped = np.mod(z, height)
    sequence = np.argsort(wrapped, kind="stable")
    gaps = wrapped[sequence] - np.roll(wrapped[sequence], 1)
    gaps[0] += height
    starts = np.flatnonzero(gaps > tolerance)
    if starts.size == 0:
        starts = np.array([int(np.argmax(gaps))])
    sequence = np.roll(sequence, -starts[0])
    return np.split(sequence, starts[1:] - starts[0])


@dataclass(frozen=True, eq=False)
class Start:
    """A stacking unit seen from one atom: what canonical choices compare.

    Attributes
    ----------
    fractional : numpy.ndarray
        (n, 3) coordinates (z / height, in-plane fractions along a1 and a2) from the origin atom, wrapped, sorted.
    atoms : numpy.ndarray
        (n,) indices of the atoms in that order; the first is the origin.
    numbers : tuple of int
        Atomic numbers in that order.
    """

    fractional: Float
    atoms: NDArray[np.intp]
    numbers: tuple[int, ...]

    def compare(self, other: Start) -> int:
        """Order by geometry first, then by atomic numbers: -1, 0 or 1."""
        geometry = lexicographic(self.fractional, other.fractional)
        return geometry or (self.numbers > other.numbers) - (self.numbers < other.numbers)


def seen_from(atom: int, lowest: int, fractional: Float, a3: Float, numbers: NDArray[np.intp]) -> Start:
    """Stacking unit with one of its atoms above the in-plane origin.

    Parameters
    ----------
    atom : int
        Index of the atom at the in-plane origin.
    lowest : int
        Index of the atom at height zero: the lowest of the starting plane.
    fractional : numpy.ndarray
        (n, 3) fractional coordinates along a1, a2, a3.
    a3 : numpy.ndarray
        (2,) in-plane part of a3 in units of a1 and a2.
    numbers : numpy.ndarray
        (n,) atomic numbers.

    Returns
    -------
    Start
    """
    raised = fractional[:, 2] - fractional[lowest, 2]
    raised = raised - np.floor(raised + ROUND_OFF)
    in_plane = fractional[:, :2] + raised[:, None] * a3
    rows = np.column_stack([raised, wrap(in_plane - in_plane[atom])])
    sequence = order(rows)
    return Start(rows[sequence], sequence, tuple(int(numbers[i]) for i in sequence))


def canonical_starts(
    fractional: Float, a3: Float, numbers: NDArray[np.intp], height: float, tolerance: float
) -> tuple[list[NDArray[np.intp]], list[Start]]:
    """Planes of a stacking unit in canonical order, with the canonical origin of each.

    The first plane is the one below which the gap is widest. Ties, and the choice of the atom at the
    in-plane origin, are decided by the coordinates that result and then by atomic numbers. Two
    crystals of the same geometry (Si and Ge) therefore start at the same plane and atom, whatever
    the origin of their input.

    Parameters
    ----------
    fractional, a3, numbers
        See :func:`seen_from`.
    height : float
        Height of the unit in Angstrom.
    tolerance : float
        Heights closer than this belong to one plane, Angstrom.

    Returns
    -------
    planes : list of numpy.ndarray
        Atom indices of each plane, upwards.
    starts : list of Start
        The unit as seen from each plane.
    """
    z = fractional[:, 2] * height
    planes = group_planes(z, height, tolerance)
    starts = []
    for plane in planes:
        above = np.mod(z[plane] - z[plane[0]] + ROUND_OFF, height)
        level = plane[above < LENGTH_TOLERANCE]
        candidates = [seen_from(int(atom), int(plane[0]), fractional, a3, numbers) for atom in level]
        starts.append(min(candidates, key=cmp_to_key(Start.compare)))
    below = [float(np.mod(z[plane[0]] - z[planes[i - 1][-1]], height)) for i, plane in enumerate(planes)]
    if len(planes) == 1:
        return planes, starts

    def compare(i: int, j: int) -> int:
        if abs(below[i] - below[j]) > LENGTH_TOLERANCE:
            return -1 if below[i] > below[j] else 1
        return starts[i].compare(starts[j])

    first = min(range(len(planes)), key=cmp_to_key(compare))
    return planes[first:] + planes[:first], starts[first:] + starts[:first]

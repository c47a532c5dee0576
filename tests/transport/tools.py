"""Short ways to the solver for the tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from thermal_flows import units
from thermal_flows.transport import Junction
from thermal_flows.transport.leads.blocks import BlockBuilder, LeadBlocks
from thermal_flows.transport.solvers.matching import conservation_bound, scatter

from . import oracle
from .junctions import Recipe


@dataclass(frozen=True)
class Solved:
    """Transmission at one wave vector and several squared frequencies, with what the arithmetic says about itself."""

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]
    modes_left: NDArray[np.intp]
    modes_right: NDArray[np.intp]
    conservation: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    bound: NDArray[np.float64]

    def check(self) -> None:
        """Energy is conserved, reciprocity holds, and there is no more transmission than channels."""
        assert np.all(self.conservation < self.bound)
        assert np.all(np.abs(self.forward - self.backward) < self.bound)
        assert np.all(self.forward >= 0)
        channels = np.minimum(self.modes_left, self.modes_right)
        assert np.all(self.forward <= channels + self.bound * np.maximum(channels, 1))


def solve(junction: Junction, q, w2, w2_max: float | None = None) -> Solved:
    """One wave vector and many squared frequencies, without the symmetry and the frequency grid of the public functions."""
    q, w2 = np.asarray(q, dtype=float), np.atleast_1d(np.asarray(w2, dtype=float))
    if w2_max is None:
        w2_max = float(max(oracle.band_edges(lead, q)[1] for lead in (junction.left, junction.right)))
    result = scatter(BlockBuilder(junction)(q), w2, w2_max)
    forward, backward = result.transmission()
    return Solved(
        forward,
        backward,
        result.left.n_in,
        result.right.n_in,
        result.conservation_error(),
        result.flagged,
        conservation_bound(w2, w2_max),
    )


def window(junction: Junction, q) -> tuple[float, float]:
    """Squared frequencies between which both leads may have modes at one wave vector (empty if reversed)."""
    left, right = oracle.band_edges(junction.left, q), oracle.band_edges(junction.right, q)
    return max(left[0], right[0]), min(left[1], right[1])


def band_extrema(lead: LeadBlocks) -> list[float]:
    """Squared frequencies of the band edges of a lead, to round-off."""

    def bands(theta: float) -> np.ndarray:
        forward = lead.H01 * np.exp(1j * theta)
        return np.linalg.eigvalsh(lead.H00 + forward + forward.conj().T)

    grid = np.linspace(-np.pi, np.pi, 361)
    sampled = np.array([bands(theta) for theta in grid])
    edges = []
    for j in range(sampled.shape[1]):
        for sign in (1, -1):
            k = int(np.argmin(sign * sampled[:, j]))
            found = minimize_scalar(
                lambda theta, sign=sign, j=j: sign * bands(theta)[j],
                bracket=(grid[k] - 0.02, grid[k], grid[k] + 0.02),
                tol=1e-14,
            )
            edges.append(sign * float(found.fun))
    return edges


def inside(junction: Junction, q, fractions) -> NDArray[np.float64]:
    """Squared frequencies at fractions of the window of common bands, those above 1e-4 of its top; none if it is empty."""
    low, high = window(junction, q)
    if high <= low:
        return np.zeros(0)
    w2 = low + (high - low) * np.asarray(fractions)
    return w2[w2 > 1e-4 * high]


def thz(w2) -> NDArray[np.float64]:
    """Ordinary frequency of a squared frequency."""
    return units.w2_to_thz(w2)


def recipes(max_atoms: int = 8, **fixed) -> st.SearchStrategy[Recipe]:
    """Random stable junctions; coupling between layers of any rank from 1 up."""
    choices = {
        "seed": st.integers(0, 2**32 - 1),
        "n_left": st.integers(1, max_atoms),
        "n_right": st.integers(1, max_atoms),
        "n_inner": st.integers(0, 3),
        "links": st.integers(1, 4),
        "link_rank": st.integers(1, 3),
        "oblique": st.booleans(),
        "twofold": st.booleans(),
    }
    choices |= {name: st.just(value) for name, value in fixed.items()}
    return st.builds(Recipe, **choices)


_coordinate = st.one_of(st.floats(-0.5, 0.5), st.sampled_from([-0.5, -1 / 3, -0.25, 0.0, 0.25, 1 / 3, 0.5]))
wave_vectors = st.tuples(_coordinate, _coordinate)
fractions = st.lists(st.floats(0.001, 0.999), min_size=1, max_size=8)

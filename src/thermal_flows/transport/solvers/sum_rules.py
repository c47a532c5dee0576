"""Sum rules of the device's Green's function, by contour integration: no frequency grid can miss a mode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.junctions.junction import Junction
from thermal_flows.transport.leads.blocks import BlockBuilder, JunctionBlocks
from thermal_flows.transport.solvers.decimation import decimate
from thermal_flows.transport.solvers.green_function import batches
from thermal_flows.transport.solvers.open_device import OpenDevice

_STRETCH = 1.3
_POINTS = 160


@dataclass(frozen=True)
class SumRuleErrors:
    """How well the moments of the local densities of states are met, one number a degree of freedom of the device.

    With squared frequencies relative to the largest possible one, so that all numbers are dimensionless.

    Attributes
    ----------
    states : numpy.ndarray, shape (n,)
        Of ``(1/2 pi i) contour integral of G_ii dz = 1``: there are as many modes as degrees of freedom.
    first : numpy.ndarray, shape (n,)
        Of ``z G_ii``: the element D_ii of the dynamical matrix.
    second : numpy.ndarray, shape (n,)
        Of ``z^2 G_ii``: the element (D^2)_ii, couplings to the leads included. The first rule that the leads' self-energies
        have a part in beyond their analyticity.
    """

    states: NDArray[np.float64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]

    @property
    def largest(self) -> float:
        """Largest of all errors."""
        return max(float(np.abs(v).max()) for v in (self.states, self.first, self.second))


def sum_rule_errors(junction: Junction, q_frac: ArrayLike) -> SumRuleErrors:
    """Sum rules of the local densities of states at one in-plane wave vector.

    The contour is an ellipse around all squared frequencies of the infinite system (Gershgorin's theorem for blocks bounds
    them), bound modes included. The trapezoidal rule converges geometrically on it.

    Parameters
    ----------
    junction : Junction
    q_frac : array_like, shape (2,)
        In-plane wave vector as fractions of b1, b2.

    Returns
    -------
    SumRuleErrors
        Round-off, 1e-12 or less, for a correct junction of any size.

    Raises
    ------
    TransportError
        If the wave vector is not usable.
    """
    q = np.asarray(q_frac, dtype=float)
    if q.shape != (2,) or not np.all(np.isfinite(q)):
        raise TransportError(f"q_frac must be two fractions of the in-plane reciprocal vectors, got {q_frac!r}")
    blocks = BlockBuilder(junction)(q)
    device = OpenDevice.build(blocks)
    low, high = spectral_bounds(blocks)
    scale = max(abs(low), abs(high))
    # the half in the upper half plane; the other half is its conjugate
    angles = (np.arange(_POINTS) + 0.5) * np.pi / _POINTS
    w = _STRETCH * np.exp(1j * angles)
    z = 0.5 * (low + high) + 0.25 * (high - low) * (w + 1 / w)
    dz = 0.25 * (high - low) * 1j * (w - 1 / w) * np.pi / _POINTS
    diagonal = np.concatenate(
        [
            device.diagonal(some, decimate(blocks.left, some).lower, decimate(blocks.right, some).upper)
            for some in batches(device, z)
        ]
    )
    moments = np.stack([(diagonal * (dz * z**power)[:, None]).sum(axis=0).imag / np.pi for power in range(3)])
    H = blocks.device.sparse_block
    n, diagonal_of_H = H.shape[0], H.diagonal().real
    squared = np.asarray(H.multiply(H.conj()).sum(axis=1)).real
    H01_l, H01_r = blocks.left.H01, blocks.right.H01
    squared[: len(H01_l)] += np.einsum("ji,ji->i", H01_l, H01_l.conj()).real
    squared[n - len(H01_r) :] += np.einsum("ij,ij->i", H01_r, H01_r.conj()).real
    return SumRuleErrors(moments[0] - 1.0, (moments[1] - diagonal_of_H) / scale, (moments[2] - squared) / scale**2)


def spectral_bounds(blocks: JunctionBlocks) -> tuple[float, float]:
    """Bounds of all squared frequencies of the infinite junction, eV/(Angstrom^2 amu)."""
    left, right = (float(np.linalg.norm(lead.H01, 2)) for lead in (blocks.left, blocks.right))
    device, own = blocks.device.sparse_block, blocks.device.sparse_block.diagonal().real
    around = np.asarray(abs(device).sum(axis=1)).real - np.abs(own)  # Gershgorin: no matrix of the whole device
    low, high = [float((own - around).min()) - left - right], [float((own + around).max()) + left + right]
    for block, reach in ((blocks.left.H00, 2 * left), (blocks.right.H00, 2 * right)):
        energies = np.linalg.eigvalsh(block)
        low.append(float(energies[0]) - reach)
        high.append(float(energies[-1]) + reach)
    return min(low), max(high)

"""Transmission in many digits: decimation of the blocks the solver works on, in mpmath, with a broadening far below rounding.

Slow and simple; it is right where double precision is not enough to judge: on poles and band edges, where bands almost
cross, and for transmissions of 1e-20.
"""

from __future__ import annotations

import mpmath as mp
import numpy as np
from numpy.typing import NDArray

from thermal_flows.transport.leads.blocks import JunctionBlocks

DIGITS = 150
BROADENING = mp.mpf(10) ** -30
"""Relative to the largest element of the layer; band edges are smeared by its square root."""


def _many_digits(block: NDArray) -> NDArray[np.object_]:
    return np.array([[mp.mpc(complex(x)) for x in row] for row in block], dtype=object)


def _dagger(block: NDArray[np.object_]) -> NDArray[np.object_]:
    return np.array([[x.conjugate() for x in row] for row in block], dtype=object).T


def _inverse(matrix: NDArray[np.object_]) -> NDArray[np.object_]:
    """Gauss-Jordan elimination with pivots."""
    n = len(matrix)
    work = np.concatenate([matrix, np.array([[mp.mpc(i == j) for j in range(n)] for i in range(n)])], axis=1)
    for k in range(n):
        pivot = k + max(range(n - k), key=lambda i: abs(work[k + i, k]))
        work[[k, pivot]] = work[[pivot, k]]
        work[k] = work[k] / work[k, k]
        for i in range(n):
            if i != k:
                work[i] = work[i] - work[i, k] * work[k]
    return work[:, n:]


def _shifted_inverse(z: mp.mpc, block: NDArray[np.object_]) -> NDArray[np.object_]:
    matrix = -block
    for k in range(len(block)):
        matrix[k, k] += z
    return _inverse(matrix)


def _surface(z: mp.mpc, H00: NDArray[np.object_], H01: NDArray[np.object_]) -> NDArray[np.object_]:
    """Green's function of the first layer of a lead that extends towards layers coupled by ``H01``."""
    surface, bulk, a, b = H00, H00, H01, _dagger(H01)
    for _ in range(400):
        g = _shifted_inverse(z, bulk)
        ag, bg = a @ g, b @ g
        agb = ag @ b
        surface, bulk, a, b = surface + agb, bulk + agb + bg @ a, ag @ a, bg @ b
        if max(abs(x) for x in (*a.ravel(), *b.ravel())) < mp.mpf(10) ** -DIGITS:
            return _shifted_inverse(z, surface)
    raise RuntimeError("decimation did not converge")


def transmission(blocks: JunctionBlocks, w2: float) -> float:
    """Total transmission at one squared frequency."""
    with mp.workdps(DIGITS):
        h00_l, h01_l, h00_r, h01_r, device = (
            _many_digits(b)
            for b in (blocks.left.H00, blocks.left.H01, blocks.right.H00, blocks.right.H01, blocks.device.block)
        )
        z = mp.mpc(w2, BROADENING * max(abs(x) for x in (*h00_l.ravel(), *h00_r.ravel())))
        g_l, g_r = _surface(z, h00_l, _dagger(h01_l)), _surface(z, h00_r, h01_r)
        sigma_l, sigma_r = _dagger(h01_l) @ g_l @ h01_l, h01_r @ g_r @ _dagger(h01_r)
        n, n_l, n_r = len(device), len(h00_l), len(h00_r)
        dressed = device.copy()
        dressed[:n_l, :n_l] += sigma_l
        dressed[n - n_r :, n - n_r :] += sigma_r
        across = _shifted_inverse(z, dressed)[n - n_r :, :n_l]
        gamma_l, gamma_r = (1j * (s - _dagger(s)) for s in (sigma_l, sigma_r))
        return float(np.trace(gamma_r @ across @ gamma_l @ _dagger(across)).real)

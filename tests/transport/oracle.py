"""An independent reference: Green's functions of full n x n blocks by decimation, and the Caroli formula.

Plain on purpose, and nothing of it is shared with the package: blocks are summed pair by pair, the leads' surface Green's
functions come from Sancho-Rubio decimation with a small broadening, and the transmission is the trace of Caroli et al.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.transport import Junction


def block(part: PairForceConstants, q, R3: int) -> NDArray[np.complex128]:
    """Block of the dynamical matrix between a layer and the layer ``R3`` above it."""
    n = part.n_atoms
    D = np.zeros((3 * n, 3 * n), dtype=complex)
    for i, j, R, phi in zip(part.i, part.j, part.R, part.phi, strict=True):
        if R[2] == R3:
            phase = np.exp(2j * np.pi * (q[0] * R[0] + q[1] * R[1]))
            D[3 * i : 3 * i + 3, 3 * j : 3 * j + 3] += phi * phase / np.sqrt(part.masses[i] * part.masses[j])
    return D


def surface_green(z: complex, H00: NDArray, H01: NDArray) -> NDArray[np.complex128]:
    """Green's function of the first layer of a lead that extends towards layers coupled by ``H01``."""
    one = np.eye(len(H00))
    surface, bulk, a, b = H00.astype(complex), H00.astype(complex), H01, H01.conj().T
    for _ in range(100):
        g = np.linalg.inv(z * one - bulk)
        agb, bga = a @ g @ b, b @ g @ a
        surface = surface + agb
        bulk = bulk + agb + bga
        a, b = a @ g @ a, b @ g @ b
        size = max(np.abs(a).max(), np.abs(b).max())
        if size < 1e-30:
            break
        if size > 1e30:  # a pole of an isolated block: decimation has failed
            return np.full_like(surface, np.nan)
    else:
        raise RuntimeError("decimation did not converge")
    return np.linalg.inv(z * one - surface)


def transmission(junction: Junction, q, w2: float, eta: float) -> float:
    """Total transmission at one point with broadening ``w2 + i eta``."""
    left, right = junction.left, junction.right
    z = w2 + 1j * eta
    H01_l, H01_r = block(left, q, 1), block(right, q, 1)
    g_l = surface_green(z, block(left, q, 0), H01_l.conj().T)
    g_r = surface_green(z, block(right, q, 0), H01_r)
    H = block(junction.device, q, 0)
    n, n_l, n_r = len(H), len(H01_l), len(H01_r)
    sigma_l, sigma_r = np.zeros((n, n), dtype=complex), np.zeros((n, n), dtype=complex)
    sigma_l[:n_l, :n_l] = H01_l.conj().T @ g_l @ H01_l
    sigma_r[n - n_r :, n - n_r :] = H01_r @ g_r @ H01_r.conj().T
    G = np.linalg.inv(z * np.eye(n) - H - sigma_l - sigma_r)
    gamma_l = 1j * (sigma_l - sigma_l.conj().T)
    gamma_r = 1j * (sigma_r - sigma_r.conj().T)
    return float(np.trace(gamma_r @ G @ gamma_l @ G.conj().T).real)


def extrapolated(junction: Junction, q, w2: float, scale: float) -> tuple[float, float]:
    """Transmission extrapolated to zero broadening, and its uncertainty.

    Linear in the broadening, from three pairs of it; their spread tells of band edges and narrow resonances (too much
    broadening) and of poles of isolated blocks, where decimation loses digits (too little). ``scale`` is the largest
    squared frequency.
    """
    values = []
    for eta in (1e-6 * scale, 1e-7 * scale, 1e-8 * scale):
        values.append(2 * transmission(junction, q, w2, eta) - transmission(junction, q, w2, 2 * eta))
    return values[-1], float(np.ptp(values))


@lru_cache(maxsize=32)
def _bands(lead: PairForceConstants, q1: float, q2: float, n_samples: int) -> NDArray[np.float64]:
    """Squared frequencies (n_samples, 3 n) along one period of k_z; a lead is itself only, so that it can be remembered."""
    H00, H01 = block(lead, (q1, q2), 0), block(lead, (q1, q2), 1)
    forward = np.exp(2j * np.pi * np.arange(n_samples) / n_samples)[:, None, None] * H01
    return np.linalg.eigvalsh(H00 + forward + forward.conj().swapaxes(1, 2))


def band_edges(lead: PairForceConstants, q, n_samples: int = 64) -> NDArray[np.float64]:
    """Smallest and largest squared frequency of a lead at one in-plane wave vector (sampled)."""
    bands = _bands(lead, float(q[0]), float(q[1]), n_samples)
    return np.array([np.min(bands), np.max(bands)])


def count_crossings(lead: PairForceConstants, q, w2: float, n_samples: int = 720) -> tuple[int, float]:
    """Modes propagating one way, counted as crossings of sampled bands, and the distance to the nearest sampled extremum."""
    bands = _bands(lead, float(q[0]), float(q[1]), n_samples)
    above = bands > w2
    crossings = np.count_nonzero(above != np.roll(above, 1, axis=0))
    ahead, behind = np.roll(bands, -1, axis=0) - bands, bands - np.roll(bands, 1, axis=0)
    extreme = ahead * behind <= 0
    return crossings // 2, float(np.abs(bands[extreme] - w2).min())


def acoustic_impedance(lead: PairForceConstants) -> NDArray[np.float64]:
    """Acoustic impedance matrix of a lead for propagation along z at q = 0, per in-plane cell: M (w2/theta^2)^(1/2).

    Second-order perturbation in the phase theta per layer of the three uniform translations: with D(theta) = D0 + theta D1 +
    theta^2 D2, E = U+ [D2 - D1 D0^-1 D1] U is w2/theta^2 as a matrix, and Z = sqrt(rho C) = M E^(1/2) (the layer's thickness
    cancels between mass density and elastic constant).
    """
    H00, H01 = block(lead, (0, 0), 0), block(lead, (0, 0), 1)
    D0 = (H00 + H01 + H01.conj().T).real
    D1 = 1j * (H01 - H01.conj().T)
    D2 = -0.5 * (H01 + H01.conj().T)
    mass = lead.masses.sum()
    U = np.kron(np.sqrt(lead.masses / mass)[:, None], np.eye(3))
    inverse = np.linalg.pinv(D0, rcond=1e-10, hermitian=True)
    E = (U.T @ (D2 - D1 @ inverse @ D1) @ U).real
    values, vectors = np.linalg.eigh(0.5 * (E + E.T))
    return mass * (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def acoustic_limit(junction: Junction) -> float:
    """Transmission at q = 0 for omega -> 0: 4 Tr[Z1 (Z1+Z2)^-1 Z2 (Z1+Z2)^-1]."""
    Z1, Z2 = acoustic_impedance(junction.left), acoustic_impedance(junction.right)
    inverse = np.linalg.inv(Z1 + Z2)
    return float(4 * np.trace(Z1 @ inverse @ Z2 @ inverse))


def chain_transmission(w2, m_l, m_r, k_l, k_r, contact, pinned_l=0.0, pinned_r=0.0) -> NDArray[np.float64]:
    """Analytic transmission of two chains (springs k, atoms tied to their sites by ``pinned``) and a contact spring."""
    w2 = np.atleast_1d(np.asarray(w2, dtype=float))

    def phase(m: float, k: float, pinned: float) -> NDArray[np.float64]:
        # 4 k sin^2(theta/2) = m w2 - pinned
        s = (m * w2 - pinned) / (4 * k)
        return np.where((s > 0) & (s < 1), 2 * np.arcsin(np.sqrt(np.clip(s, 0, 1))), np.nan)

    left, right = phase(m_l, k_l, pinned_l), phase(m_r, k_r, pinned_r)
    el, er = np.exp(1j * left), np.exp(1j * right)
    # displacements: e^{i left n} + r e^{-i left n} for n <= 0, t e^{i right (n - 1)} for n >= 1; forces in the cut bond:
    # k_l (ghost_1 - u_0) = contact (u_1 - u_0) = k_r (u_1 - ghost_0)
    # k_l (el - 1) + k_l (1/el - 1) r = contact (t - 1 - r);  k_r t (1 - 1/er) = contact (t - 1 - r)
    t = np.full(len(w2), np.nan, dtype=complex)
    for n in np.flatnonzero(np.isfinite(left) & np.isfinite(right)):
        matrix = np.array([[k_l * (1 / el[n] - 1) + contact, -contact], [contact, k_r * (1 - 1 / er[n]) - contact]])
        t[n] = np.linalg.solve(matrix, [-contact - k_l * (el[n] - 1), -contact])[1]
    result = np.abs(t) ** 2 * k_r * np.sin(right) / (k_l * np.sin(left))
    return np.nan_to_num(result)

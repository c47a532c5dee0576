"""Acoustic mismatch of two isotropic media: a welded plane, longitudinal and transverse waves, mode conversion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermal_flows import units
from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.models.elastic import LongWaves, hill_moduli

WAVES = ("P", "SV", "SH")
"""Longitudinal; transverse in the plane of incidence; transverse across it."""

_NODES = 48


@dataclass(frozen=True)
class AcousticMedium:
    """An isotropic elastic solid.

    Attributes
    ----------
    density : float
        kg/m3.
    v_longitudinal, v_transverse : float
        Velocities of sound, m/s.

    Raises
    ------
    TransportError
        If a number is not positive, or the bulk modulus is not (v_longitudinal^2 > 4/3 v_transverse^2 is needed).
    """

    density: float
    v_longitudinal: float
    v_transverse: float

    def __post_init__(self) -> None:
        for name in ("density", "v_longitudinal", "v_transverse"):
            value = getattr(self, name)
            if not np.isfinite(value) or value <= 0:
                raise TransportError(f"{name} must be positive, got {value!r}")
        if 3 * self.v_longitudinal**2 <= 4 * self.v_transverse**2:
            raise TransportError(
                f"v_longitudinal = {self.v_longitudinal:.6g} m/s and v_transverse = {self.v_transverse:.6g} m/s give no positive "
                "bulk modulus; the longitudinal velocity must be at least 1.155 times the transverse one"
            )

    @classmethod
    def from_elastic_tensor(cls, elastic: ArrayLike, density: float) -> AcousticMedium:
        """Medium with the Voigt-Reuss-Hill averages of a crystal's elastic constants.

        Parameters
        ----------
        elastic : array_like, shape (6, 6) or (3, 3, 3, 3)
            GPa; Voigt order xx, yy, zz, yz, xz, xy.
        density : float
            kg/m3.

        Raises
        ------
        TransportError
            If these are not elastic constants of a stable crystal, or the density is not positive.
        """
        if not np.isfinite(density) or density <= 0:
            raise TransportError(f"density must be positive, got {density!r}")
        bulk, shear = hill_moduli(np.asarray(elastic, dtype=float))
        return cls(
            float(density),
            float(np.sqrt((bulk + 4 / 3 * shear) * 1e9 / density)),
            float(np.sqrt(shear * 1e9 / density)),
        )

    @classmethod
    def from_force_constants(cls, crystal: PairForceConstants) -> AcousticMedium:
        """Medium of a crystal's long waves, relaxation inside the cell included.

        Parameters
        ----------
        crystal : PairForceConstants
            Periodic in three directions, for instance a lead of a junction.

        Raises
        ------
        TransportError
            If the crystal has no sound velocities or its force constants are not those of an elastic solid.
        """
        waves = LongWaves.from_force_constants(crystal)
        return cls.from_elastic_tensor(waves.elastic_tensor(), waves.density)

    @property
    def velocities(self) -> NDArray[np.float64]:
        """Velocities of P, SV and SH, m/s, shape (3,)."""
        return np.array([self.v_longitudinal, self.v_transverse, self.v_transverse])

    def debye_frequency(self, number_density: float) -> float:
        """Debye cut-off, THz: the frequency below which the three branches hold three modes an atom.

        Parameters
        ----------
        number_density : float
            Atoms (or, for acoustic branches only, primitive cells) per Angstrom^3.
        """
        if not np.isfinite(number_density) or number_density <= 0:
            raise TransportError(f"number_density must be positive, in 1/A^3; got {number_density!r}")
        inverse_cubes = float((self.velocities**-3.0).sum())
        return float((9 * number_density * 1e30 / (4 * np.pi * inverse_cubes)) ** (1 / 3) * 1e-12)


@dataclass(frozen=True, eq=False)
class BoundaryCoefficients:
    """Shares of an incident wave's energy flux; reflected and transmitted shares sum to 1.

    Attributes
    ----------
    reflected, transmitted : numpy.ndarray, shape (..., 3)
        Into P, SV and SH of the medium the wave comes from and of the other one.
    """

    reflected: NDArray[np.float64]
    transmitted: NDArray[np.float64]


@dataclass(frozen=True)
class AcousticMismatch:
    """The welded plane between two isotropic media, in the acoustic mismatch model.

    Attributes
    ----------
    left, right : AcousticMedium

    Notes
    -----
    E. T. Swartz and R. O. Pohl, Rev. Mod. Phys. 61, 605 (1989), with the full boundary problem: displacement and traction are
    continuous, P and SV convert into each other, and waves beyond their critical angle decay away from the plane.
    """

    left: AcousticMedium
    right: AcousticMedium

    def coefficients(self, angles: ArrayLike, incident: str = "P", side: str = "left") -> BoundaryCoefficients:
        """Energy reflected and transmitted at given angles of incidence.

        Parameters
        ----------
        angles : array_like
            Between the incident wave and the normal, rad, 0 <= angle < pi/2; any shape.
        incident : {"P", "SV", "SH"}
        side : {"left", "right"}
            The medium the wave comes from.

        Raises
        ------
        TransportError
            If an angle is out of range or a name unknown.
        """
        angles = np.asarray(angles, dtype=float)
        if not np.all((angles >= 0) & (angles < np.pi / 2)):
            raise TransportError("angles of incidence must lie in [0, pi/2), in rad")
        if incident not in WAVES:
            raise TransportError(f"incident must be one of {', '.join(WAVES)}; got {incident!r}")
        here, there = self._ordered(side)
        k = WAVES.index(incident)
        shares = _boundary(here, there, np.sin(angles).ravel() / here.velocities[k])[:, :, k]
        shares = shares.reshape(*angles.shape, 6)
        return BoundaryCoefficients(shares[..., :3], shares[..., 3:])

    def mode_transmission(self, side: str = "left") -> NDArray[np.float64]:
        """Hemispherical averages Gamma_jk = integral of alpha_jk(theta) 2 sin(theta) cos(theta), shape (3, 3).

        Row j: incident wave (P, SV, SH) of ``side``; column k: transmitted wave of the other medium. A row's sum is the
        average transmission Gamma_j of that wave.
        """
        first = self._channels
        channels = first if side == "left" else first.T
        here, _ = self._ordered(side)
        return channels * (4 * np.pi * here.velocities**2)[:, None]

    @cached_property
    def _channels(self) -> NDArray[np.float64]:
        """Integral of alpha_jk over in-plane slownesses, d2s / (2 pi)^2, from the left; s2/m2, shape (3, 3)."""
        slownesses = np.concatenate([1 / self.left.velocities, 1 / self.right.velocities])
        # alpha has a square root at every critical slowness; s = a + (b - a) sin^2 makes it smooth
        edges = np.unique(np.concatenate([[0.0], slownesses]))
        p, weights = panels(edges[:-1], edges[1:], _NODES)
        shares = _boundary(self.left, self.right, p.ravel())[:, 3:, :3]
        return np.einsum("n,nkj->jk", (weights * p).ravel() / (2 * np.pi), shares)

    @property
    def low_temperature_coefficient(self) -> float:
        """G / T^3 for T -> 0, MW/(m2 K4): pi^2 kB^4 / (30 hbar^3) times the sum of Gamma_j / c_j^2."""
        return low_temperature_coefficient(float(self._channels.sum()))

    def conductance(self, temperatures: ArrayLike, cutoff: float, statistics: str = "quantum") -> NDArray[np.float64]:
        """Landauer conductance of Debye spectra that end at one common frequency.

        Parameters
        ----------
        temperatures : array_like
            K.
        cutoff : float
            THz. Elastic transmission ends where the softer medium's spectrum ends: its Debye frequency
            (:meth:`AcousticMedium.debye_frequency`), or the top of the softer lead.
        statistics : {"quantum", "classical"}

        Returns
        -------
        numpy.ndarray, shape (nT,)
            MW/(m2 K).

        Raises
        ------
        TransportError
            If the cut-off is not positive.
        ValueError
            If a temperature is not positive or the statistics is unknown.
        """
        if not np.isfinite(cutoff) or cutoff <= 0:
            raise TransportError(f"cutoff must be positive, in THz; got {cutoff!r}")
        temperatures = np.atleast_1d(np.asarray(temperatures, dtype=float))
        nodes, weights = np.polynomial.legendre.leggauss(64)
        tops = np.full(len(temperatures), float(cutoff))
        if statistics == "quantum":  # nothing is excited above 50 kB T
            tops = np.minimum(tops, 50 * units.BOLTZMANN * temperatures / (2 * np.pi * units.HBAR) * 1e-12)
        f = 0.5 * tops[:, None] * (nodes + 1)
        heat = units.mode_heat_capacity(f, temperatures[:, None], statistics)
        integral = (heat * (2 * np.pi * f * 1e12) ** 2 * 0.5 * tops[:, None] * weights).sum(axis=1) * 1e12
        return float(self._channels.sum()) * integral * units.MW_PER_WATT

    def _ordered(self, side: str) -> tuple[AcousticMedium, AcousticMedium]:
        if side not in ("left", "right"):
            raise TransportError(f"side must be 'left' or 'right', not {side!r}")
        return (self.left, self.right) if side == "left" else (self.right, self.left)


def acoustic_mismatch(left: AcousticMedium, right: AcousticMedium) -> AcousticMismatch:
    """Acoustic mismatch model of two isotropic media.

    Parameters
    ----------
    left, right : AcousticMedium
        Density and velocities of sound; see :meth:`AcousticMedium.from_elastic_tensor` and
        :meth:`AcousticMedium.from_force_constants` for Hill averages of crystals.

    Returns
    -------
    AcousticMismatch

    Raises
    ------
    TransportError
        If an argument is not an :class:`AcousticMedium`.
    """
    for medium in (left, right):
        if not isinstance(medium, AcousticMedium):
            raise TransportError(
                f"acoustic_mismatch takes two AcousticMedium, not {type(medium).__name__}; for a lead use "
                "AcousticMedium.from_force_constants(junction.left)"
            )
    return AcousticMismatch(left, right)


def low_temperature_coefficient(channels: float) -> float:
    """G / T^3 for T -> 0, MW/(m2 K4), of a transmission that depends on the in-plane slowness s alone.

    Parameters
    ----------
    channels : float
        Integral of the transmission (sum over modes) over d2s / (2 pi)^2, s2/m2.

    Notes
    -----
    G = int d omega / 2 pi hbar omega dn/dT omega^2 channels, and int x^4 e^x / (e^x - 1)^2 = 4 pi^4 / 15.
    """
    return float(channels * 2 * np.pi**3 / 15 * units.BOLTZMANN**4 / units.HBAR**3 * units.MW_PER_WATT)


def panels(
    starts: NDArray[np.float64], ends: NDArray[np.float64], n_nodes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss nodes and weights of many intervals, made for square roots at either end; shapes (..., n_nodes)."""
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    angle = 0.25 * np.pi * (nodes + 1)
    width = (ends - starts)[..., None]
    return starts[..., None] + width * np.sin(angle) ** 2, width * 0.25 * np.pi * np.sin(2 * angle) * weights


def _boundary(left: AcousticMedium, right: AcousticMedium, slowness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of energy [outgoing, incoming] at in-plane slownesses p, s/m; shape (np, 6, 6).

    Order: P, SV, SH of the left medium, then of the right one. Columns of waves that do not propagate are zero.
    """
    p = np.asarray(slowness, dtype=float)
    sides = _Waves.of(left, p, 1.0), _Waves.of(right, p, -1.0)
    # continuity of displacement and traction: (Y_left + Y_right) u = 2 diag(Y) u_incident of the side it comes from
    total = sides[0].outward() + sides[1].outward()
    amplitudes = np.empty((len(p), 6, 6), dtype=complex)
    for k, source in enumerate(sides):
        incident = source.displacements(inward=True)
        plane = np.linalg.solve(total, 2 * source.diagonal[:, :, None] * incident)
        for m, end in enumerate(sides):
            leaving = plane - incident if end is source else plane
            amplitudes[:, 3 * m : 3 * m + 3, 3 * k : 3 * k + 3] = end.amplitudes(leaving)
    flux = np.concatenate([side.flux for side in sides], axis=1)
    open_ = np.broadcast_to(flux[:, None, :] > 0, amplitudes.shape)
    scale = np.divide(flux[:, :, None], flux[:, None, :], out=np.zeros(amplitudes.shape), where=open_)
    return np.abs(amplitudes) ** 2 * scale


@dataclass(frozen=True, eq=False)
class _Waves:
    """P, SV and SH of one half-space at given in-plane slownesses; displacements in the order x, z, y.

    The impedance (traction over i omega times displacement) is written in closed form: the displacements of P and SV become
    parallel where both are strongly evanescent, and a basis of them loses digits.
    """

    medium: AcousticMedium
    p: NDArray[np.float64]
    towards: float
    vertical: NDArray[np.complex128]
    determinant: NDArray[np.complex128]

    @classmethod
    def of(cls, medium: AcousticMedium, p: NDArray[np.float64], towards: float) -> _Waves:
        """``towards`` is the sign of z that leads to the plane."""
        a, b = 1 / medium.v_longitudinal**2, 1 / medium.v_transverse**2
        c = 1 / medium.velocities
        # Im >= 0: decays away from the plane; a product, because a difference of squares loses digits at grazing incidence
        vertical = np.sqrt(((c - p[:, None]) * (c + p[:, None])).astype(complex))
        xi_eta = vertical[:, 0] * vertical[:, 1]
        buried = p**2 > b  # p^2 + xi eta without cancellation
        safe = np.where(buried, p**2 - xi_eta, 1.0)
        determinant = np.where(buried, (p**2 * (a + b) - a * b) / safe, p**2 + xi_eta)
        return cls(medium, p, towards, vertical, determinant)

    @property
    def flux(self) -> NDArray[np.float64]:
        """Energy flux along z of waves of unit amplitude, zero for evanescent ones, shape (np, 3)."""
        return self.medium.density * self.medium.velocities**2 * self.vertical.real

    @property
    def diagonal(self) -> NDArray[np.complex128]:
        """Diagonal of the impedance, shape (np, 3)."""
        in_plane = self.medium.density * self.vertical[:, :2] / self.determinant[:, None]
        shear = self.medium.density * self.medium.v_transverse**2 * self.vertical[:, 2:]
        return np.concatenate([in_plane, shear], axis=1)

    def outward(self) -> NDArray[np.complex128]:
        """Traction on the half-space by the waves that leave the plane, per displacement, shape (np, 3, 3)."""
        Y = self.diagonal[:, :, None] * np.eye(3)
        mu = self.medium.density * self.medium.v_transverse**2
        across = -self.towards * self.p * (2 * mu - self.medium.density / self.determinant)
        Y[:, 0, 1] += across
        Y[:, 1, 0] -= across
        return Y

    def displacements(self, inward: bool) -> NDArray[np.complex128]:
        """Columns: unit displacements of P, SV and SH, shape (np, 3, 3)."""
        sign = self.towards if inward else -self.towards
        v_l, v_t = self.medium.v_longitudinal, self.medium.v_transverse
        U = np.zeros((len(self.p), 3, 3), dtype=complex)
        U[:, 0, 0], U[:, 1, 0] = v_l * self.p, v_l * sign * self.vertical[:, 0]
        U[:, 0, 1], U[:, 1, 1] = v_t * sign * self.vertical[:, 1], -v_t * self.p
        U[:, 2, 2] = 1.0
        return U

    def amplitudes(self, u: NDArray) -> NDArray[np.complex128]:
        """Amplitudes of the waves that leave the plane and make up the displacements ``u``, shape (np, 3, k)."""
        xi, eta = (-self.towards * self.vertical[:, k, None] for k in (0, 1))
        p, D = self.p[:, None], self.determinant[:, None]
        return np.stack(
            [
                (p * u[:, 0] + eta * u[:, 1]) / (D * self.medium.v_longitudinal),
                (xi * u[:, 0] - p * u[:, 1]) / (D * self.medium.v_transverse),
                u[:, 2],
            ],
            axis=1,
        )

"""From a junction to its conductance, with the convergence that backs the number."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jobflow import Maker, job

from thermal_flows import units
from thermal_flows.jobs.crystal import current_uuid
from thermal_flows.lattice.polar import Polarity, is_metal_like, metal_statement
from thermal_flows.progress import reporter
from thermal_flows.schemas.common import ConvergenceTest, Provenance, conductance_value
from thermal_flows.schemas.identity import sha256_of
from thermal_flows.schemas.interface import (
    ARRAY_FIELDS,
    InterfaceDoc,
    JunctionDoc,
    MeanSpectrum,
    TransmissionChecks,
    junction_from_lists,
    mode_arrays,
    spectrum_arrays,
)
from thermal_flows.settings import settings
from thermal_flows.transport import Junction, TransmissionSpectrum, solve_transmission

Key = tuple[str, str, str, float]
CHECKED = ((3, 3), 20)
"""Mesh and grid on which mode matching is compared with Green's functions."""

SOLVERS_AGREE = 1e-6
"""Difference of the transmission above which that is worth a warning."""

COLD_BINS = 5
"""Where k_B T / h spans fewer bins of the frequency grid than this, a temperature gets a mesh and a grid of its own."""

CITATIONS = ("10.1103/PhysRevB.91.174302", "10.1063/1.2133890")
"""Mode matching with Bloch matrices (Ong and Zhang); diffuse mismatch with full dispersion (Reddy et al.)."""


@dataclass
class TransmissionMaker(Maker):
    """Transmission and conductance of a junction by mode matching, with models and limits of the same leads beside it.

    Attributes
    ----------
    name : str
    q_mesh : tuple of int
        Half-shifted mesh of in-plane wave vectors; doubled until converged.
    n_frequencies : int
        Midpoints of [0, top of the softer lead]; doubled until converged.
    temperatures : tuple of float
        K. Low ones, at which only the lowest few bins would count, are solved on a mesh and a grid of their own.
    reference_temperature : float
        Temperature at which convergence is judged, K.
    convergence_tolerance : float
        Largest accepted sum of the relative changes when mesh, grid, device length and Hessian are coarsened or changed.
    max_refinements : int
        How often mesh or grid may be doubled.
    resolve_modes : bool
        Keep every incident mode.
    n_workers : int or None
        Threads; None follows the settings.
    """

    name: str = "transmission"
    q_mesh: tuple[int, int] = (20, 20)
    n_frequencies: int = 200
    temperatures: tuple[float, ...] = (50.0, 100.0, 200.0, 300.0, 400.0, 500.0)
    reference_temperature: float = 300.0
    convergence_tolerance: float = 0.01
    max_refinements: int = 2
    resolve_modes: bool = True
    n_workers: int | None = None

    def __post_init__(self) -> None:
        """Check what can be checked before any force is computed."""
        mesh = tuple(self.q_mesh)
        if len(mesh) != 2 or any(n != int(n) for n in mesh):
            raise ValueError(f"q_mesh must be two whole numbers of in-plane wave vectors, such as (20, 20); got {mesh}")
        self.q_mesh = (int(mesh[0]), int(mesh[1]))
        self.temperatures = tuple(float(t) for t in self.temperatures)
        if min(self.q_mesh) < 2:
            raise ValueError(f"q_mesh must be at least (2, 2), so that half of it can be compared; got {self.q_mesh}")
        if self.n_frequencies < 2:
            raise ValueError(f"n_frequencies must be at least 2; got {self.n_frequencies}")
        units.mode_heat_capacity(1.0, [*self.temperatures, self.reference_temperature])  # positive temperatures
        if not self.temperatures:
            raise ValueError("give at least one temperature, in K")

    @job(output_schema=InterfaceDoc, data=list(ARRAY_FIELDS))
    def make(self, junction_doc: JunctionDoc) -> InterfaceDoc:
        """Solve a junction, refine mesh and grid until converged, and say how sure the result is.

        Parameters
        ----------
        junction_doc : JunctionDoc
            With its arrays.

        Returns
        -------
        InterfaceDoc
            The output of the job; not converged within ``max_refinements`` is said in ``converged`` and ``warnings``.

        Raises
        ------
        UnstableLeadError
            If a lead has imaginary frequencies.
        TransportError
            If the modes of a lead cannot be told apart.
        """
        doc = junction_doc if isinstance(junction_doc, JunctionDoc) else JunctionDoc.model_validate(junction_doc)
        junction = doc.junction()
        timings = dict(doc.timings)
        began = time.perf_counter()
        q_mesh, n_frequencies = self.q_mesh, self.n_frequencies
        known: dict[tuple[tuple[int, int], int], _Solution] = {}

        def solved(mesh: tuple[int, int], n: int) -> _Solution:
            if (mesh, n) not in known:
                known[mesh, n] = self._solve(junction, mesh, n)
            return known[mesh, n]

        solved(q_mesh, n_frequencies)
        timings["transmission"] = time.perf_counter() - began
        began = time.perf_counter()
        others = self._compared(doc, solved(_half(q_mesh), n_frequencies), q_mesh, n_frequencies)
        refinements = 0
        while True:
            solution = solved(q_mesh, n_frequencies)
            coarse_q = {mesh: solved(mesh, n_frequencies) for mesh in _coarser_meshes(q_mesh)}
            coarse_f = {n: solved(q_mesh, n) for n in _coarser_grids(n_frequencies)}
            tests = self._tests(solution, q_mesh, n_frequencies, coarse_q, coarse_f, others)
            total = sum(test.relative_change for test, _, _ in tests)
            if total <= self.convergence_tolerance or refinements >= self.max_refinements:
                break
            refinements += 1
            change_q, change_f = tests[0][0].relative_change, tests[1][0].relative_change
            if change_q >= change_f:
                q_mesh = (2 * q_mesh[0], 2 * q_mesh[1])
            else:
                n_frequencies *= 2
        timings["convergence tests"] = time.perf_counter() - began
        began = time.perf_counter()
        difference = self._difference_of_solvers(junction)
        timings["second solver"] = time.perf_counter() - began
        values, spectrum = self._values(solution), solution.spectrum
        errors = _errors(values, [(used, compared) for _, used, compared in tests])
        mean_modes = spectrum.mean_modes
        parameters = {
            **doc.provenance.parameters,
            "transmission": {
                "method": spectrum.method,
                "q_mesh": list(q_mesh),
                "n_frequencies": n_frequencies,
                "requested_q_mesh": list(self.q_mesh),
                "requested_n_frequencies": self.n_frequencies,
                "temperatures_with_own_grid": sorted(solution.cold),
            },
        }
        system_id, method_id = sha256_of(doc.system), sha256_of(_method(doc, self))
        return InterfaceDoc(
            interface_id=sha256_of([system_id, method_id]),
            system_id=system_id,
            method_id=method_id,
            label=doc.label,
            substrate_formula=doc.substrate_formula,
            film_formula=doc.film_formula,
            system=doc.system,
            area=doc.area,
            strain=doc.strain,
            structure=doc.structure,
            interface_z=doc.interface_z,
            stacking_units=doc.stacking_units,
            termination=doc.termination,
            polarity=doc.polarity,
            match=doc.match,
            contacts=doc.contacts,
            stacking=(
                f"{doc.label}: substrate below film. The junction cell's other interface (film below substrate) is not part of "
                "the device."
                if doc.structure is not None
                else None
            ),
            force_constants=doc.force_constants,
            conductance=[conductance_value(values[key], key[3], key[0], key[1], key[2], errors[key]) for key in values],
            mean_spectrum=MeanSpectrum(
                frequencies=spectrum.frequencies.tolist(),
                frequency_weights=spectrum.frequency_weights.tolist(),
                transmission=spectrum.mean_transmission.tolist(),
                modes_left=mean_modes[0].tolist(),
                modes_right=mean_modes[1].tolist(),
            ),
            density_of_states=doc.density_of_states,
            spectrum=spectrum_arrays(spectrum),
            modes=mode_arrays(spectrum.modes) if spectrum.modes is not None else None,
            junction_arrays=doc.junction_arrays,
            convergence=[test for test, _, _ in tests],
            converged=bool(total <= self.convergence_tolerance),
            convergence_tolerance=self.convergence_tolerance,
            warnings=_warnings(doc, spectrum, difference, total, self.convergence_tolerance),
            junction_checks=doc.checks,
            transmission_checks=TransmissionChecks(**asdict(spectrum.checks), second_solver=difference),
            timings=timings,
            provenance=Provenance(
                potential=doc.provenance.potential,
                parameters=parameters,
                job_uuids=[*doc.provenance.job_uuids, *current_uuid()],
                citations=[*doc.provenance.citations, *CITATIONS],
            ),
        )

    def _solve(self, junction: Junction, q_mesh: tuple[int, int], n_frequencies: int) -> _Solution:
        def spectrum(temperature: float | None) -> TransmissionSpectrum:
            own = "" if temperature is None else f", for {temperature:g} K"
            reporter().stage(f"transmission, {q_mesh[0]} x {q_mesh[1]} wave vectors, {n_frequencies} frequencies{own}")
            return solve_transmission(
                junction,
                q_mesh,
                n_frequencies,
                temperature=temperature,
                resolve_modes=self.resolve_modes and temperature is None,
                n_workers=self.n_workers or settings().n_workers,
                progress=reporter().progress,
            )

        # of the grid asked for, whatever it is refined to: every solution treats the same temperatures alike
        step = min(junction.top_frequencies) / self.n_frequencies
        cold = [t for t in self._temperatures() if units.thermal_frequency(t) < COLD_BINS * step]
        return _Solution(junction.softer_side, spectrum(None), {t: spectrum(t) for t in cold})

    def _difference_of_solvers(self, junction: Junction) -> float:
        mesh, n = CHECKED
        reporter().stage(f"second solver, {mesh[0]} x {mesh[1]} wave vectors, {n} frequencies")
        one, two = (
            solve_transmission(
                junction,
                mesh,
                n,
                method,
                n_workers=self.n_workers or settings().n_workers,
                progress=reporter().progress,
            ).transmission
            for method in ("mode_matching", "green_function")
        )
        return float(np.abs(one - two).max())

    def _temperatures(self) -> list[float]:
        return sorted({*self.temperatures, self.reference_temperature})

    def _values(self, solution: _Solution) -> dict[Key, float]:
        """Every conductance by (definition, statistics, method, temperature), MW/(m2 K)."""
        values = {}
        for t in self._temperatures():
            excited, everything = solution.cold.get(t, solution.spectrum), solution.spectrum
            for source, definition, statistics in (
                (excited, "landauer", "quantum"),
                (everything, "landauer", "classical"),  # equipartition leaves nothing out at any temperature
                (excited, "nonequilibrium", "quantum"),
                (everything, "nonequilibrium", "classical"),
                (excited.diffuse_mismatch(), "landauer", "quantum"),
                (excited.maximum_transmission(), "landauer", "quantum"),
                (excited.radiation_limit(solution.softer_side), "landauer", "quantum"),
            ):
                g = source.conductance([t], statistics, definition)[0]
                values[definition, statistics, source.method, t] = float(g)
        return values

    def _compared(
        self, doc: JunctionDoc, reference: _Solution, q_mesh: tuple[int, int], n_frequencies: int
    ) -> list[tuple[dict[str, Any], _Solution, _Solution, str]]:
        """Junctions with other settings beside the one used, on one coarse mesh."""
        mesh = _half(q_mesh)
        return [
            (
                other,
                reference,
                self._solve(junction_from_lists(other["arrays"]), mesh, n_frequencies),
                f"{mesh[0]} x {mesh[1]} wave vectors, {n_frequencies} frequencies",
            )
            for other in doc.compared_junctions
        ]

    def _tests(
        self,
        solution: _Solution,
        q_mesh: tuple[int, int],
        n_frequencies: int,
        coarse_q: dict[tuple[int, int], _Solution],
        coarse_f: dict[int, _Solution],
        others: list[tuple[dict[str, Any], _Solution, _Solution, str]],
    ) -> list[tuple[ConvergenceTest, dict[Key, float], list[dict[Key, float]]]]:
        """Every test with the conductance used and those compared with it; the test tells of the largest change."""
        values = self._values(solution)
        mesh_text, grid_text = f"{q_mesh[0]} x {q_mesh[1]} wave vectors", f"{n_frequencies} frequencies"
        cases: list[tuple[str, Any, str, dict[Key, float], list[tuple[Any, dict[Key, float]]]]] = [
            ("q_mesh", list(q_mesh), grid_text, values, [(list(m), self._values(s)) for m, s in coarse_q.items()]),
            ("n_frequencies", n_frequencies, mesh_text, values, [(n, self._values(s)) for n, s in coarse_f.items()]),
        ]
        cases += [
            (
                other["parameter"],
                other["used"],
                text,
                self._values(reference),
                [(other["compared"], self._values(changed))],
            )
            for other, reference, changed, text in others
        ]
        key: Key = ("landauer", "quantum", solution.spectrum.method, self.reference_temperature)
        tests = []
        for parameter, used, text, a, compared in cases:
            setting, b = max(compared, key=lambda entry: abs(entry[1][key] - a[key]))
            test = ConvergenceTest(
                parameter=parameter,
                used=used,
                compared=setting,
                temperature=self.reference_temperature,
                conductance_used=a[key],
                conductance_compared=b[key],
                relative_change=abs(b[key] - a[key]) / a[key] if a[key] > 0 else 0.0,
                settings=text,
            )
            tests.append((test, a, [values for _, values in compared]))
        return tests


@dataclass(frozen=True)
class _Solution:
    """The spectrum of a junction on one mesh and grid, and those made for low temperatures (K)."""

    softer_side: str
    spectrum: TransmissionSpectrum
    cold: dict[float, TransmissionSpectrum]


def _half(q_mesh: tuple[int, int]) -> tuple[int, int]:
    return q_mesh[0] // 2, q_mesh[1] // 2


def _coarser_meshes(q_mesh: tuple[int, int]) -> list[tuple[int, int]]:
    """Two meshes to compare with, a half and two thirds as fine.

    The error of a mesh goes up and down with its size, and a single comparison may meet an equal error by accident: of Si|Ge and
    Cu|Ni meshes between 6 and 24, a half alone missed the error of one in six, by up to a factor of 25; the two together of one
    in twenty.
    """
    two_thirds = (2 * q_mesh[0] + 1) // 3, (2 * q_mesh[1] + 1) // 3
    return list(dict.fromkeys((_half(q_mesh), two_thirds)))


def _coarser_grids(n_frequencies: int) -> list[int]:
    """Two frequency grids to compare with, for the same reason; the midpoints of these two interlace."""
    half = n_frequencies // 2
    return [n for n in (half, half + 1) if n != n_frequencies]


def _errors(
    values: dict[Key, float], tests: Sequence[tuple[dict[Key, float], list[dict[Key, float]]]]
) -> dict[Key, float | None]:
    """Sum over the tests of the largest absolute change of every conductance; None where one is infinite."""
    errors: dict[Key, float | None] = {}
    for key, value in values.items():
        changes = [max(abs(b[key] - used[key]) for b in compared) for used, compared in tests]
        # infinity minus infinity is not a number
        errors[key] = float(sum(changes)) if np.isfinite([value, *changes]).all() else None
    return errors


def _method(doc: JunctionDoc, maker: TransmissionMaker) -> dict[str, Any]:
    """What identifies the method: potential and settings, not temperatures or threads."""
    potential = doc.provenance.potential or {}
    return {
        "potential": potential.get("sha256") or potential.get("spec"),
        "junction": {k: v for k, v in doc.provenance.parameters.items() if k != "interface"},
        "transmission": {
            "method": "mode_matching",
            "q_mesh": list(maker.q_mesh),
            "n_frequencies": maker.n_frequencies,
            "reference_temperature": maker.reference_temperature,
            "convergence_tolerance": maker.convergence_tolerance,
            "max_refinements": maker.max_refinements,
        },
    }


def _warnings(
    doc: JunctionDoc, spectrum: TransmissionSpectrum, difference: float, total: float, tolerance: float
) -> list[str]:
    found = [
        "Elastic, harmonic transmission: no heat is carried above the softer side's cut-off, and none by anharmonic processes."
    ]
    if total > tolerance:
        found.append(
            f"Not converged: the settings tested change the conductance by {100 * total:.2g} % in sum, more than "
            f"{100 * tolerance:g} %."
        )
    if spectrum.checks.conservation_over_bound > 1 or spectrum.checks.reciprocity_over_bound > 1:
        found.append(
            f"Energy is not conserved to round-off (largest |T+R-1| {spectrum.checks.conservation:.1e}, reciprocity "
            f"{spectrum.checks.reciprocity:.1e}): look at the force constants."
        )
    if difference > SOLVERS_AGREE:
        found.append(
            f"Mode matching and Green's functions differ by {difference:.1e} on a coarse mesh, where round-off explains "
            f"{SOLVERS_AGREE:g}: look at the points near band edges."
        )
    found += _left_out(doc)
    found += (doc.provenance.potential or {}).get("warnings", [])
    return found


def _left_out(doc: JunctionDoc) -> list[str]:
    """What metals and polar crystals have beyond short-ranged springs."""
    if doc.polarity is not None:
        warnings = [Polarity.from_dict(doc.polarity[side]).warning for side in ("substrate", "film")]
    else:  # force constants handed in: only formulas are known, and those may be mere names
        formulas = (doc.substrate_formula, doc.film_formula)
        warnings = [metal_statement(formula) for formula in formulas if _is_metal(formula)]
    return list(dict.fromkeys(warning for warning in warnings if warning is not None))


def _is_metal(formula: str) -> bool:
    try:
        return is_metal_like(formula)
    except ValueError:
        return False

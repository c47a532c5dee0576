"""Documents of the main job: crystals, junction and interface."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field
from pymatgen.core import Structure

from thermal_flows.schemas.common import SCHEMA_VERSION, ConductanceValue, ConvergenceTest, Document, Provenance
from thermal_flows.transport import Checks, IncidentModes, Junction, TransmissionSpectrum

ARRAY_FIELDS = ("spectrum", "modes", "junction_arrays", "compared_junctions")
"""Fields that jobs keep in the additional store ``data``, so that a document stays small."""

_SPECTRUM = (
    "frequencies",
    "frequency_weights",
    "q_points",
    "q_weights",
    "transmission",
    "modes_left",
    "modes_right",
)


_MATCH = (
    "How the in-plane cells were matched: integer matrices of substrate and film in their primitive in-plane bases, area of the "
    "common cell (Angstrom^2), principal strains of both sides (dimensionless) and the turn of the film (degrees)."
)
_CONTACTS = (
    "The atomic planes that meet at the interface, read upwards, and those at the other interface of the junction cell, which "
    "is not part of the device."
)


_POLARITY = (
    "Of substrate and film: whether the crystal is polar or metal-like, and the size of the LO-TO splitting that is neglected "
    "(THz, smallest and largest estimate); see thermal_flows.lattice.polar.Polarity."
)


class CrystalDoc(Document):
    """A relaxed bulk crystal."""

    doc_type: Literal["CrystalDoc"] = "CrystalDoc"
    schema_version: int = SCHEMA_VERSION
    formula: str = Field(description="Reduced formula.")
    structure: Structure = Field(description="Relaxed structure, Angstrom.")
    input_structure: Structure = Field(description="Structure as given, Angstrom.")
    energy_per_atom: float = Field(description="Potential energy in eV per atom.")
    max_force: float = Field(description="Largest force left on an atom in eV/Angstrom.")
    max_stress: float = Field(description="Largest stress left in GPa.")
    steps: int = Field(description="Relaxation steps taken.")
    provenance: Provenance


class JunctionChecks(Document):
    """What was measured while a junction was built; raw."""

    mismatch_left: float = Field(
        description="Largest difference between the device's outer layers and the left lead, eV/Angstrom^2."
    )
    mismatch_right: float = Field(
        description="Largest difference between the device's outer layers and the right lead, eV/Angstrom^2."
    )
    sum_rule: float = Field(
        description="Acoustic-sum-rule error of the stitched system after correction, eV/Angstrom^2."
    )
    sum_rule_correction: float = Field(description="Largest change of a force constant by the sum rule, eV/Angstrom^2.")
    asymmetry: float = Field(description="Largest phi_ij - phi_ji^T before symmetrisation, eV/Angstrom^2.")
    neglected: float = Field(description="Largest force constant beyond the range, eV/Angstrom^2.")
    max_force: float | None = Field(
        default=None,
        description="Largest force left on an atom of the relaxed junction, eV/Angstrom. Null for a junction handed in.",
    )
    max_stress: float | None = Field(
        default=None, description="Normal stress left in the relaxed junction, GPa. Null for a junction handed in."
    )
    residual_shear: float | None = Field(
        default=None,
        description="Largest shear stress with the normal left in a relaxed part, GPa. Null for a junction handed in.",
    )
    lengths_tried: list[list[float]] = Field(
        description="Stacking units of substrate and film and mismatch left and right (eV/Angstrom^2) of every length tried."
    )


class JunctionDoc(Document):
    """Two leads and the device between them, with how they were obtained."""

    doc_type: Literal["JunctionDoc"] = "JunctionDoc"
    schema_version: int = SCHEMA_VERSION
    label: str = Field(description="substrate|film with planes.")
    substrate_formula: str = Field(description="Reduced formula of the left lead.")
    film_formula: str = Field(description="Reduced formula of the right lead.")
    system: dict[str, Any] = Field(description="What identifies the physical system; its sha256 is the system id.")
    area: float = Field(description="In-plane cell area in Angstrom^2.")
    strain: dict[str, Any] | None = Field(
        default=None, description="Which side is strained and in-plane strains of both sides (dimensionless)."
    )
    structure: Structure | None = Field(
        default=None,
        description="Relaxed junction cell, Angstrom: substrate below film; across the cell boundary film below substrate.",
    )
    interface_z: float | None = Field(default=None, description="Height of the interface in that cell, Angstrom.")
    stacking_units: list[int] | None = Field(
        default=None, description="Stacking units of substrate and film in that cell."
    )
    termination: list[int] | None = Field(
        default=None, description="First atomic plane of the stacking units of substrate and film."
    )
    match: dict[str, Any] | None = Field(default=None, description=_MATCH)
    polarity: dict[str, Any] | None = Field(default=None, description=_POLARITY)
    contacts: list[str] | None = Field(default=None, description=_CONTACTS)
    force_constants: dict[str, Any] = Field(
        default_factory=dict,
        description="Method, range (Angstrom), supercells, displacement (Angstrom) and step error (eV/Angstrom^2).",
    )
    checks: JunctionChecks | None = None
    n_atoms: list[int] = Field(description="Atoms of a left principal layer, the device and a right principal layer.")
    junction_arrays: Any = Field(
        description="Arrays of the junction (Junction.to_arrays); Angstrom, amu, eV/Angstrom^2."
    )
    compared_junctions: Any = Field(
        default_factory=list,
        description="Junctions with another setting, for the convergence test: parameter, used, compared, arrays.",
    )
    density_of_states: dict[str, list[float]] | None = Field(
        default=None,
        description="Bulk phonon density of states of both leads: frequencies in THz, states per THz and atom.",
    )
    timings: dict[str, float] = Field(default_factory=dict, description="Wall time of the stages, s.")
    provenance: Provenance

    def junction(self) -> Junction:
        """The live junction."""
        return junction_from_lists(self.junction_arrays)


class TransmissionChecks(Document):
    """What the solver says about itself, raw; see thermal_flows.transport.Checks."""

    conservation: float = Field(description="Largest |T + R - 1| over all incident modes.")
    conservation_over_bound: float = Field(
        description="The same over max(1e-9, 1e-14 (omega_max/omega)^2); below 1: round-off."
    )
    reciprocity: float = Field(description="Largest difference of the transmissions from the left and from the right.")
    reciprocity_over_bound: float = Field(description="The same over that bound.")
    excess: float = Field(description="Largest transmission above min(modes left, modes right).")
    flagged: int = Field(description="Points at a band edge; see thermal_flows.transport.Checks.")
    solved: int = Field(description="Points with open channels on both sides.")
    points: int = Field(description="All points of mesh and grid.")
    second_solver: float | None = Field(
        default=None,
        description="Largest difference of the transmission from that of the Green's function solver, on a coarse mesh.",
    )


class MeanSpectrum(Document):
    """Zone averages of the transmission; small enough for the document itself."""

    frequencies: list[float] = Field(description="THz.")
    frequency_weights: list[float] = Field(description="Quadrature weights, THz.")
    transmission: list[float] = Field(description="Sum over modes per in-plane cell, averaged over wave vectors.")
    modes_left: list[float] = Field(description="Modes of the left lead per in-plane cell, averaged over wave vectors.")
    modes_right: list[float] = Field(
        description="Modes of the right lead per in-plane cell, averaged over wave vectors."
    )


class InterfaceDoc(Document):
    """The conductance of an interface, how sure, and where it came from."""

    doc_type: Literal["InterfaceDoc"] = "InterfaceDoc"
    schema_version: int = SCHEMA_VERSION
    interface_id: str = Field(description="sha256 of system id and method id: the key of the collection.")
    system_id: str = Field(description="sha256 of the physical system: crystals, planes, terminations, strain.")
    method_id: str = Field(description="sha256 of the method: potential and settings.")
    label: str = Field(description="substrate|film with planes; left lead is the substrate.")
    substrate_formula: str = Field(description="Reduced formula of the substrate (left lead).")
    film_formula: str = Field(description="Reduced formula of the film (right lead).")
    system: dict[str, Any] = Field(description="What identifies the physical system.")
    area: float = Field(description="In-plane cell area in Angstrom^2.")
    strain: dict[str, Any] | None = Field(default=None, description="In-plane strains of both sides (dimensionless).")
    structure: Structure | None = Field(default=None, description="Relaxed junction cell, Angstrom.")
    interface_z: float | None = Field(default=None, description="Height of the interface in that cell, Angstrom.")
    stacking_units: list[int] | None = Field(default=None, description="Stacking units of substrate and film.")
    termination: list[int] | None = Field(default=None, description="First atomic planes of substrate and film.")
    match: dict[str, Any] | None = Field(default=None, description=_MATCH)
    polarity: dict[str, Any] | None = Field(default=None, description=_POLARITY)
    contacts: list[str] | None = Field(default=None, description=_CONTACTS)
    stacking: str | None = Field(
        default=None,
        description="Which of the junction cell's two interfaces the result is for, and what the other is.",
    )
    force_constants: dict[str, Any] = Field(default_factory=dict, description="How the force constants were obtained.")
    conductance: list[ConductanceValue] = Field(description="Conductances with their definitions.")
    mean_spectrum: MeanSpectrum
    density_of_states: dict[str, list[float]] | None = Field(
        default=None, description="Bulk density of states of both leads: THz, states per THz and atom."
    )
    spectrum: Any = Field(
        description="Transmission and mode numbers by wave vector and frequency (TransmissionSpectrum)."
    )
    modes: Any = Field(default=None, description="Every incident mode (IncidentModes): phase, velocity, T, R.")
    junction_arrays: Any = Field(description="Arrays of the junction.")
    convergence: list[ConvergenceTest] = Field(description="Settings varied, and how the conductance moved.")
    converged: bool = Field(
        description="Whether the sum of relative changes at the reference temperature is within tolerance."
    )
    convergence_tolerance: float = Field(description="Tolerance for that sum, dimensionless.")
    warnings: list[str] = Field(default_factory=list, description="What a reader of the number must know.")
    junction_checks: JunctionChecks | None = None
    transmission_checks: TransmissionChecks
    timings: dict[str, float] = Field(default_factory=dict, description="Wall time of the stages, s.")
    provenance: Provenance

    def junction(self) -> Junction:
        """The live junction.

        Raises
        ------
        ValueError
            If the arrays were not loaded with the document.
        """
        return junction_from_lists(self.junction_arrays)

    def transmission_spectrum(self) -> TransmissionSpectrum:
        """The live spectrum, with checks and modes.

        Raises
        ------
        ValueError
            If the arrays were not loaded with the document.
        """
        checks = Checks(**self.transmission_checks.model_dump(exclude={"second_solver"}))
        modes = modes_from_arrays(self.modes) if self.modes is not None else None
        method = self.provenance.parameters.get("transmission", {}).get("method", "mode_matching")
        return spectrum_from_arrays(self.spectrum, self.area, method, checks, modes)

    @classmethod
    def from_database(cls, document: dict[str, Any]) -> InterfaceDoc:
        """The live document of a database entry, without what the database added (state, sources, times of change).

        Parameters
        ----------
        document : dict
            From a query; after ``ThermalDatabase.load`` it holds its arrays, else their references.
        """
        added = ("_id", "state", "error", "built_from", "last_updated")
        return cls.model_validate({k: v for k, v in document.items() if k not in added and not k.startswith("@")})

    def value(
        self,
        temperature: float,
        definition: str = "landauer",
        statistics: str = "quantum",
        method: str = "mode_matching",
    ) -> ConductanceValue:
        """The conductance with this meaning.

        Parameters
        ----------
        temperature : float
            K.
        definition : {"landauer", "nonequilibrium"}
        statistics : {"quantum", "classical"}
        method : {"mode_matching", "diffuse_mismatch", "maximum_transmission", "radiation_limit"}

        Returns
        -------
        ConductanceValue
            MW/(m2 K), with error and resistance.

        Raises
        ------
        KeyError
            If it was not calculated; the message lists what there is.
        """
        for entry in self.conductance:
            if (entry.definition, entry.statistics, entry.method) == (definition, statistics, method) and abs(
                entry.temperature - temperature
            ) < 1e-6:
                return entry
        have = sorted({f"{e.temperature:g} K {e.definition} {e.statistics} {e.method}" for e in self.conductance})
        raise KeyError(
            f"no {definition} {statistics} {method} conductance at {temperature:g} K; there are: {', '.join(have)}"
        )


def _loaded(arrays: Any, what: str) -> dict[str, Any]:
    if not isinstance(arrays, dict) or "blob_uuid" in arrays:
        raise ValueError(f"the {what} of this document is not loaded: query the job store with load=True")
    return arrays


def junction_from_lists(arrays: dict[str, Any]) -> Junction:
    """A live junction from the arrays of a document."""
    arrays = _loaded(arrays, "junction")
    return Junction.from_arrays({name: np.asarray(value) for name, value in arrays.items()}, source="the document")


def spectrum_arrays(spectrum: TransmissionSpectrum) -> dict[str, Any]:
    """The arrays of a spectrum as lists."""
    return {name: getattr(spectrum, name).tolist() for name in _SPECTRUM}


def spectrum_from_arrays(
    arrays: dict[str, Any],
    area: float,
    method: str,
    checks: Checks | None = None,
    modes: IncidentModes | None = None,
) -> TransmissionSpectrum:
    """A live spectrum from the arrays of a document (``area`` in Angstrom^2)."""
    arrays = _loaded(arrays, "spectrum")
    live: dict[str, Any] = {name: np.asarray(arrays[name], dtype=float) for name in _SPECTRUM}
    return TransmissionSpectrum(**live, area=area, method=method, checks=checks or Checks(), modes=modes)


def modes_from_arrays(arrays: dict[str, Any]) -> IncidentModes:
    """A live mode list from the arrays of a document."""
    arrays = _loaded(arrays, "mode list")
    whole = ("q_index", "frequency_index", "side")
    return IncidentModes(
        **{
            name: np.asarray(arrays[name], dtype=np.intp if name in whole else float)
            for name in IncidentModes.__dataclass_fields__
        }
    )


def mode_arrays(modes: IncidentModes) -> dict[str, Any]:
    """The arrays of a mode list as lists."""
    return {name: getattr(modes, name).tolist() for name in IncidentModes.__dataclass_fields__}

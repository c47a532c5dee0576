"""From two crystals to the force constants of their junction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator
from jobflow import Maker, job
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from thermal_flows.jobs.crystal import current_uuid
from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.lattice.phonopy_io import density_of_states
from thermal_flows.lattice.polar import Polarity, assess_polarity
from thermal_flows.potentials import Potential, resolve_potential
from thermal_flows.progress import reporter
from thermal_flows.schemas.common import Provenance
from thermal_flows.schemas.identity import array_identity, interface_identity
from thermal_flows.schemas.interface import ARRAY_FIELDS, JunctionChecks, JunctionDoc
from thermal_flows.settings import settings as package_settings
from thermal_flows.structures import Interface, build_interface
from thermal_flows.transport import Junction
from thermal_flows.transport.junctions.construction import (
    Construction,
    ConstructionSettings,
    construct_junction,
    interface_height,
    lead_force_constants,
)

COMPARISONS = ("device_length", "hessian")
"""Settings of the force constants whose effect on the conductance can be tested."""


@dataclass
class JunctionMaker(Maker):
    """Build an interface of two crystals, relax it and compute the force constants of its junction.

    Attributes
    ----------
    name : str
    potential : str
        Name, file, or ``"module:callable"``.
    settings : ConstructionSettings
        Relaxation, range, Hessian and lengthening; a dictionary of its fields is taken too.
    compare : tuple of str
        For the convergence test: ``device_length`` builds the junction again with another principal layer a side,
        ``hessian`` with finite differences in place of the analytic Hessian, or with half the step.
    density_of_states_mesh : int
        Mesh of the bulk densities of states; 0 leaves them out.
    """

    name: str = "junction"
    potential: str = "tersoff-si-ge"
    settings: ConstructionSettings = field(default_factory=ConstructionSettings)
    compare: tuple[str, ...] = COMPARISONS
    density_of_states_mesh: int = 20

    def __post_init__(self) -> None:
        """Take plain dictionaries and lists, as they come back from JSON."""
        if isinstance(self.settings, dict):
            plain = {key: value for key, value in self.settings.items() if not key.startswith("@")}
            self.settings = ConstructionSettings(**plain)
        self.compare = tuple(self.compare)
        unknown = set(self.compare) - set(COMPARISONS)
        if unknown:
            raise ValueError(f"unknown comparison {', '.join(sorted(unknown))}; known are {', '.join(COMPARISONS)}")

    @job(output_schema=JunctionDoc, data=list(ARRAY_FIELDS))
    def make(
        self,
        substrate: Structure,
        film: Structure,
        substrate_input: Structure | None = None,
        film_input: Structure | None = None,
        source_uuids: Sequence[str] = (),
        crystal_provenance: Sequence[Provenance | dict[str, Any]] = (),
        born: dict[str, dict[str, Any]] | None = None,
        **interface_options: Any,
    ) -> JunctionDoc:
        """Build the junction substrate|film.

        Parameters
        ----------
        substrate, film : Structure
            Bulk crystals at the potential's own lattice constants.
        substrate_input, film_input : Structure, optional
            What the user gave; they identify the system. ``substrate`` and ``film`` by default.
        source_uuids : sequence of str
            Jobs the crystals came from.
        crystal_provenance : sequence of Provenance
            How the crystals were relaxed; part of the method.
        born : dict, optional
            ``born_charges`` and ``dielectric`` of the ``substrate`` or the ``film``, in its own cell, order and axes: for the
            size of the LO-TO splitting that is neglected.
        **interface_options
            As in :func:`thermal_flows.structures.build_interface`.
        """
        potential = resolve_potential(self.potential)
        calculator = potential.calculator(**package_settings().calculator_options)
        interface = build_interface(substrate, film, **interface_options)
        timings: dict[str, float] = {}
        began = time.perf_counter()
        built = construct_junction(
            interface, calculator, self.settings, report=reporter().stage, progress=reporter().progress
        )
        timings["junction"] = time.perf_counter() - began
        compared = []
        for parameter in self.compare:
            began = time.perf_counter()
            compared.append(_compared(parameter, interface, potential, built, self.settings))
            timings[f"comparison: {parameter}"] = time.perf_counter() - began
        densities = None
        if self.density_of_states_mesh:
            reporter().stage("bulk densities of states")
            began = time.perf_counter()
            densities = _densities(built, self.density_of_states_mesh)
            timings["densities of states"] = time.perf_counter() - began
        polarity = {
            side: asdict(self._polarity(side, crystal, built, calculator, (born or {}).get(side)))
            for side, crystal in (("substrate", substrate), ("film", film))
        }
        junction = built.assembly.junction
        relaxed = built.relaxations["junction"]
        return JunctionDoc(
            label=interface.label,
            substrate_formula=substrate.composition.reduced_formula,
            film_formula=film.composition.reduced_formula,
            system=interface_identity(interface, substrate_input or substrate, film_input or film),
            area=junction.area,
            strain=interface.strain,
            match=None if interface.match is None else interface.match.as_dict(),
            contacts=list(interface.contacts),
            structure=AseAtomsAdaptor.get_structure(_plain(relaxed.atoms)),
            interface_z=interface_height(relaxed.atoms),
            stacking_units=list(built.units),
            termination=[interface.substrate_termination, interface.film_termination],
            force_constants=_force_constants(built),
            checks=JunctionChecks(
                mismatch_left=built.assembly.mismatch[0],
                mismatch_right=built.assembly.mismatch[1],
                sum_rule=junction.sum_rule_error(),
                sum_rule_correction=max(
                    built.assembly.sum_rule_correction,
                    built.substrate.sum_rule_correction,
                    built.film.sum_rule_correction,
                ),
                asymmetry=max(built.assembly.asymmetry, built.substrate.asymmetry, built.film.asymmetry),
                neglected=max(built.neglected, built.substrate.neglected, built.film.neglected),
                max_force=relaxed.max_force,
                max_stress=relaxed.max_stress,
                residual_shear=max(r.residual_shear for r in built.relaxations.values()),
                lengths_tried=[[float(x) for x in row] for row in built.history],
            ),
            n_atoms=[junction.left.n_atoms, junction.device.n_atoms, junction.right.n_atoms],
            junction_arrays=_lists(junction),
            compared_junctions=compared,
            density_of_states=densities,
            polarity=polarity,
            timings=timings,
            provenance=Provenance(
                potential=potential.provenance(),
                parameters={
                    "crystals": [_relaxation(Provenance.model_validate(p)) for p in crystal_provenance] or "as given",
                    "construction": asdict(self.settings),
                    "comparisons": list(self.compare),
                    "interface": _json_able(interface_options),
                },
                job_uuids=[*source_uuids, *current_uuid()],
                citations=list(potential.citation),
            ),
        )

    def _polarity(
        self, side: str, crystal: Structure, built: Construction, calculator: Calculator, born: dict[str, Any] | None
    ) -> Polarity:
        """Charges are given for the crystal's own cell and need its force constants; a rough estimate takes the lead's."""
        if born is None:
            relaxed = built.relaxations[side].atoms
            return assess_polarity(relaxed, (built.substrate if side == "substrate" else built.film).pairs)
        reporter().stage(f"force constants of the {side} for its LO-TO splitting")
        constants = lead_force_constants(
            AseAtomsAdaptor.get_atoms(crystal, msonable=False), calculator, self.settings, reporter().progress
        )
        return assess_polarity(crystal, constants.pairs, **born)


@dataclass
class JunctionImportMaker(Maker):
    """Take a finished junction (a user's own force constants) into a flow.

    Attributes
    ----------
    name : str
    """

    name: str = "import junction"

    @job(output_schema=JunctionDoc, data=list(ARRAY_FIELDS))
    def make(
        self, junction_arrays: dict[str, Any], substrate_formula: str, film_formula: str, label: str | None = None
    ) -> JunctionDoc:
        """Document a finished junction.

        Parameters
        ----------
        junction_arrays : dict
            Arrays of :meth:`Junction.to_arrays` as lists (Angstrom, amu, eV/Angstrom^2).
        substrate_formula, film_formula : str
            Reduced formulas of the left and right lead.
        label : str, optional
            Name of the pair with its planes.

        Returns
        -------
        JunctionDoc
            The output of the job.

        Raises
        ------
        JunctionError
            If the arrays are not a junction.
        """
        junction = Junction.from_arrays(junction_arrays, source="the junction handed in")
        left, right = junction.block_mismatch()
        return JunctionDoc(
            label=label or f"{substrate_formula}|{film_formula}",
            substrate_formula=substrate_formula,
            film_formula=film_formula,
            system={
                "junction": array_identity(junction.to_arrays()),
                "substrate": substrate_formula,
                "film": film_formula,
            },
            area=junction.area,
            force_constants={"method": "given"},
            checks=JunctionChecks(
                mismatch_left=left,
                mismatch_right=right,
                sum_rule=junction.sum_rule_error(),
                sum_rule_correction=0.0,
                asymmetry=max(p.asymmetry() for p in (junction.left, junction.device, junction.right)),
                neglected=0.0,
                lengths_tried=[],
            ),
            n_atoms=[junction.left.n_atoms, junction.device.n_atoms, junction.right.n_atoms],
            junction_arrays=_lists(junction),
            provenance=Provenance(parameters={"junction": "given"}, job_uuids=current_uuid()),
        )


def _plain(atoms: Atoms) -> Atoms:
    """Only cell, positions and elements: a structure document needs no labels."""
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def _lists(junction: Junction) -> dict[str, Any]:
    return {name: values.tolist() for name, values in junction.to_arrays().items()}


def _json_able(options: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}


def _relaxation(provenance: Provenance) -> dict[str, Any]:
    """What identifies the relaxation of a crystal."""
    potential = provenance.potential or {}
    return {"potential": potential.get("sha256") or potential.get("spec"), **provenance.parameters}


def _force_constants(built: Construction) -> dict[str, Any]:
    return {
        "method": built.hessian_method,
        "step": built.step,
        "step_error": built.step_error,
        "range": built.cutoff,
        "substrate_range": built.substrate.cutoff,
        "film_range": built.film.cutoff,
        "substrate_supercell": list(built.substrate.repeats),
        "film_supercell": list(built.film.repeats),
        "junction_supercell": list(built.supercell_repeats),
    }


def _compared(
    parameter: str, interface: Interface, potential: Potential, built: Construction, settings: ConstructionSettings
) -> dict[str, Any]:
    """The same junction with one setting changed."""
    if parameter == "device_length":
        # longer than what it took to agree with the leads, not only than the first length tried
        tried = (
            (built.units[k] - built.history[0][k]) // (2 * lead.n_atoms // built.interface.atoms_per_unit[k])
            for k, lead in enumerate((built.assembly.junction.left, built.assembly.junction.right))
        )
        changed = replace(settings, extra_layers=settings.extra_layers + 1 + int(max(tried)))
    elif built.hessian_method == "analytic":
        changed = replace(settings, hessian="finite_differences")
    else:
        changed = replace(settings, step=0.5 * float(built.step or 0.0))
    reporter().stage(f"convergence test: {parameter}")
    other = construct_junction(
        interface,
        potential.calculator(**package_settings().calculator_options),
        changed,
        start=built.relaxations["junction"].atoms,
        progress=reporter().progress,
    )

    def described(c: Construction) -> str:
        if parameter == "device_length":
            return f"{c.assembly.junction.device.n_atoms} atoms ({c.units[0]} + {c.units[1]} stacking units)"
        return c.hessian_method if c.step is None else f"finite differences, step {c.step:g} A"

    return {
        "parameter": parameter,
        "used": described(built),
        "compared": described(other),
        "arrays": _lists(other.assembly.junction),
    }


def _densities(built: Construction, mesh: int) -> dict[str, list[float]]:
    result = {}
    sides: tuple[tuple[str, PairForceConstants, Atoms], ...] = (
        ("left", built.substrate.pairs, built.interface.substrate),
        ("right", built.film.pairs, built.interface.film),
    )
    for side, pairs, unit in sides:
        frequencies, states = density_of_states(pairs, unit.numbers, mesh=mesh)
        result[f"{side}_frequencies"] = frequencies.tolist()
        result[f"{side}_states"] = states.tolist()
    return result

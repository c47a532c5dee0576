"""Relaxation of a bulk crystal."""

from __future__ import annotations

from dataclasses import dataclass

from jobflow import CURRENT_JOB, Maker, job
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from thermal_flows.potentials import resolve_potential
from thermal_flows.potentials.relaxation import relax
from thermal_flows.progress import reporter
from thermal_flows.schemas.common import Provenance
from thermal_flows.schemas.interface import CrystalDoc
from thermal_flows.settings import settings


def current_uuid() -> list[str]:
    """The uuid of the running job, as a list; empty outside a job."""
    running = getattr(CURRENT_JOB, "job", None)
    return [running.uuid] if running is not None else []


@dataclass
class CrystalRelaxMaker(Maker):
    """Relax cell and positions of a bulk crystal with a potential.

    Attributes
    ----------
    name : str
    potential : str
        Name, file, or ``"module:callable"``; see :func:`thermal_flows.potentials.resolve_potential`.
    fmax : float
        Largest force allowed, eV/Angstrom.
    max_steps : int
        A relaxation that needs more stops the flow.
    """

    name: str = "relax crystal"
    potential: str = "tersoff-si-ge"
    fmax: float = 1e-7
    max_steps: int = 2000

    @job(output_schema=CrystalDoc)
    def make(self, structure: Structure) -> CrystalDoc:
        """Relax a crystal.

        Parameters
        ----------
        structure : pymatgen.core.Structure
            Any cell of the crystal.

        Returns
        -------
        CrystalDoc
            The output of the job.

        Raises
        ------
        PotentialError
            If the potential is unknown or lacks an element.
        RelaxationError
            If ``fmax`` is not reached.
        """
        potential = resolve_potential(self.potential)
        atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
        potential.check_elements(atoms)
        formula = structure.composition.reduced_formula
        reporter().stage(f"relaxing {formula} with {potential.name}")
        relaxed = relax(
            atoms,
            potential.calculator(**settings().calculator_options),
            "full",
            fmax=self.fmax,
            max_steps=self.max_steps,
        )
        return CrystalDoc(
            formula=formula,
            structure=AseAtomsAdaptor.get_structure(relaxed.atoms),
            input_structure=structure,
            energy_per_atom=relaxed.energy / len(atoms),
            max_force=relaxed.max_force,
            max_stress=relaxed.max_stress,
            steps=relaxed.steps,
            provenance=Provenance(
                potential=potential.provenance(),
                parameters={"fmax": self.fmax, "max_steps": self.max_steps},
                job_uuids=current_uuid(),
                citations=list(potential.citation),
            ),
        )

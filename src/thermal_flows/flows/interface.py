"""The main job: two crystals in, an interfacial thermal conductance out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jobflow import Flow, Job, Maker
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from thermal_flows.jobs import CrystalRelaxMaker, JunctionImportMaker, JunctionMaker, TransmissionMaker
from thermal_flows.jobs.junction import COMPARISONS
from thermal_flows.lattice.polar import read_born
from thermal_flows.potentials import PotentialError, resolve_potential
from thermal_flows.settings import settings
from thermal_flows.structures import Match, StructureError, build_interface
from thermal_flows.structures.building import MAX_AREA, Supercell
from thermal_flows.transport import Junction, JunctionError
from thermal_flows.transport.junctions.construction import MIN_UNITS, junction_size

STRAIN_SLACK = 0.03
"""Strain of the crystals as given may exceed the limit by this before `make` refuses: relaxation changes it."""


@dataclass
class InterfaceTransmissionMaker(Maker):
    """Interfacial thermal conductance of two crystals by lattice dynamics.

    Both crystals are relaxed with the potential, stacked on a common in-plane cell, relaxed again, and the force constants of
    their junction solved for the transmission of every phonon mode.

    Attributes
    ----------
    name : str
    crystal_maker : CrystalRelaxMaker or None
        Relaxes the bulk crystals; None takes them as they are.
    junction_maker : JunctionMaker
    transmission_maker : TransmissionMaker

    Examples
    --------
    >>> from thermal_flows.structures import crystal
    >>> maker = InterfaceTransmissionMaker.from_potential("tersoff-si-ge")
    >>> flow = maker.make(crystal("Ge"), crystal("Si"))
    >>> flow.name
    'Si|Ge interface transmission'
    """

    name: str = "interface transmission"
    crystal_maker: CrystalRelaxMaker | None = field(default_factory=CrystalRelaxMaker)
    junction_maker: JunctionMaker = field(default_factory=JunctionMaker)
    transmission_maker: TransmissionMaker = field(default_factory=TransmissionMaker)

    @classmethod
    def from_potential(cls, potential: str | Path, **transmission: object) -> InterfaceTransmissionMaker:
        """A maker whose jobs all use one potential.

        Parameters
        ----------
        potential : str
            Built-in name, name of a force field of atomate2, path of a MACE model file, or ``"module:callable"`` of an ASE
            calculator factory; see :func:`thermal_flows.potentials.resolve_potential`.
        **transmission
            Fields of :class:`TransmissionMaker`, for instance ``q_mesh=(40, 40)`` or ``temperatures=(100, 300)``.

        Raises
        ------
        PotentialError
            If the potential is not known.
        """
        resolved = resolve_potential(potential)
        compare = COMPARISONS if resolved.smooth else tuple(c for c in COMPARISONS if c != "hessian")
        return cls(
            crystal_maker=CrystalRelaxMaker(potential=resolved.spec),
            junction_maker=JunctionMaker(potential=resolved.spec, compare=compare),
            transmission_maker=TransmissionMaker(**transmission),  # type: ignore[arg-type]
        )

    def make(
        self,
        film: Structure,
        substrate: Structure,
        *,
        film_miller: Sequence[int] = (0, 0, 1),
        substrate_miller: Sequence[int] = (0, 0, 1),
        film_termination: int = 0,
        substrate_termination: int = 0,
        strain: str = "film",
        max_strain: float = 0.05,
        max_area: float = MAX_AREA,
        match: Match | None = None,
        substrate_supercell: Supercell | None = None,
        film_supercell: Supercell | None = None,
        supercell: Supercell = 1,
        shift: Sequence[float] = (0.0, 0.0),
        gap: float | None = None,
        film_born: str | Path | None = None,
        substrate_born: str | Path | None = None,
    ) -> Flow:
        """A flow from two crystals to an :class:`~thermal_flows.schemas.InterfaceDoc`.

        Parameters
        ----------
        film, substrate : pymatgen.core.Structure
            Any cell of the crystals; the substrate becomes the left lead, the film the right lead.
        film_miller, substrate_miller, film_termination, substrate_termination, strain, max_strain, shift, gap
            As in :func:`thermal_flows.structures.build_interface`.
        max_area, match, substrate_supercell, film_supercell, supercell
            Which cells are matched, as there. Without match or supercells the job takes the smallest match of the *relaxed*
            crystals, which may be another one than that of the crystals as given; a match or supercells are kept.

        film_born, substrate_born : str or pathlib.Path, optional
            phonopy's ``BORN`` file of the crystal in the cell given here: the document then states the LO-TO splitting that
            is neglected, instead of a rough estimate. Read at once.

        Returns
        -------
        jobflow.Flow
            Its output is the interface document.

        Raises
        ------
        PotentialError
            If the potential does not know an element.
        StructureError
            If the crystals do not fit each other within ``max_strain`` (and a slack of 0.03 if they are to be relaxed), or the
            common cell is so large that even a short junction has more atoms than the settings allow.
        ValueError
            If the settings of the package are not usable.
        """
        options = {
            "film_miller": [int(m) for m in film_miller],
            "substrate_miller": [int(m) for m in substrate_miller],
            "film_termination": int(film_termination),
            "substrate_termination": int(substrate_termination),
            "strain": strain,
            "max_strain": float(max_strain),
            "shift": [float(x) for x in shift],
            "gap": gap,
            **_cells(max_area, match, substrate_supercell, film_supercell, supercell),
        }
        settings()  # jobs ask for them after the forces: refuse a misspelt one now
        makers = [m for m in (self.crystal_maker, self.junction_maker) if m is not None]
        for maker in makers:
            # a file by its absolute path and hash, from here on
            resolved = resolve_potential(maker.potential)
            maker.potential = resolved.spec
            if maker is self.junction_maker and not resolved.smooth and "hessian" in maker.compare:
                raise PotentialError(
                    f"forces of {resolved.name} are not smooth enough for finite differences, with which 'hessian' compares: "
                    "leave it out of junction_maker.compare (as from_potential does)"
                )
        for potential in {m.potential for m in makers}:
            for structure in (film, substrate):
                resolve_potential(potential).check_elements(AseAtomsAdaptor.get_atoms(structure, msonable=False))
        slack = STRAIN_SLACK if self.crystal_maker is not None else 0.0
        try:
            wider: dict[str, Any] = {**options, "max_strain": float(max_strain) + slack}
            interface = build_interface(substrate, film, **wider)
        except StructureError:
            build_interface(substrate, film, **options)  # the same error with the user's own limit
            raise
        shortest = junction_size(interface, (MIN_UNITS, MIN_UNITS))
        limit = self.junction_maker.settings.max_atoms
        if shortest > limit:
            raise StructureError(
                f"a junction {interface.label} with only {MIN_UNITS} stacking units a side has {shortest} atoms on a common "
                f"cell of {interface.area:.0f} A^2, more than max_atoms = {limit}: choose a smaller common cell (max_area, or "
                "find_matches), or raise max_atoms of the junction's settings"
            )

        born = {}
        for side, structure, path in (("substrate", substrate, substrate_born), ("film", film, film_born)):
            if path is not None:
                charges, dielectric = read_born(structure, path)
                born[side] = {"born_charges": charges.tolist(), "dielectric": dielectric.tolist()}

        formulas = [s.composition.reduced_formula for s in (substrate, film)]
        jobs: list[Job] = []
        crystals: list[Any] = [substrate, film]
        uuids: list[str] = []
        provenance: list[Any] = []
        if self.crystal_maker is not None:
            relaxations = [self.crystal_maker.make(structure) for structure in (substrate, film)]
            for relaxation, formula in zip(relaxations, formulas, strict=True):
                relaxation.append_name(f" {formula}")
            jobs += relaxations
            crystals = [relaxation.output.structure for relaxation in relaxations]
            uuids = [relaxation.uuid for relaxation in relaxations]
            provenance = [relaxation.output.provenance for relaxation in relaxations]
        junction = self.junction_maker.make(
            *crystals,
            substrate_input=substrate,
            film_input=film,
            source_uuids=uuids,
            crystal_provenance=provenance,
            **({"born": born} if born else {}),
            **options,
        )
        transmission = self.transmission_maker.make(junction.output)
        pair = "|".join(formulas)
        for job in (junction, transmission):
            job.append_name(f" {pair}")
        return Flow([*jobs, junction, transmission], output=transmission.output, name=f"{pair} {self.name}")

    def make_from_junction(
        self,
        junction: Junction | str | Path,
        substrate_formula: str,
        film_formula: str,
        label: str | None = None,
        mismatch_tolerance: float = 1e-3,
    ) -> Flow:
        """A flow from a finished junction to an :class:`~thermal_flows.schemas.InterfaceDoc`.

        Parameters
        ----------
        junction : Junction, str or pathlib.Path
            A junction, or the path of one written by :meth:`Junction.to_npz`; read and checked at once.
        substrate_formula, film_formula : str
            Reduced formulas of the left and right lead.
        label : str, optional
            Name of the pair with its planes.
        mismatch_tolerance : float
            Largest accepted difference between the device's outer layers and the leads, eV/Angstrom^2. Energy is conserved
            across any seam, so that nothing else would show a device that is labelled or ordered unlike its leads.

        Returns
        -------
        jobflow.Flow

        Raises
        ------
        JunctionError
            If the file does not hold a junction, or the device's outer layers differ from the leads.
        UnstableLeadError
            If a lead has imaginary frequencies.
        """
        settings()
        live = junction if isinstance(junction, Junction) else Junction.from_npz(junction)
        live.top_frequencies  # noqa: B018 - refuses unstable leads before anything is submitted
        mismatch = live.block_mismatch()
        if max(mismatch) > mismatch_tolerance:
            raise JunctionError(
                f"the outer layers of the device differ from the leads by {mismatch[0]:.2e} (left) and {mismatch[1]:.2e} (right) "
                f"eV/A^2, {mismatch_tolerance:g} allowed: give its atoms in the order and in-plane cells of the leads', make "
                "the device longer, or accept the seam with a larger mismatch_tolerance"
            )
        arrays = {name: values.tolist() for name, values in live.to_arrays().items()}
        imported = JunctionImportMaker().make(arrays, substrate_formula, film_formula, label)
        transmission = self.transmission_maker.make(imported.output)
        pair = f"{substrate_formula}|{film_formula}"
        for job in (imported, transmission):
            job.append_name(f" {pair}")
        return Flow([imported, transmission], output=transmission.output, name=f"{pair} {self.name}")


def _cells(
    max_area: float,
    match: Match | None,
    substrate_supercell: Supercell | None,
    film_supercell: Supercell | None,
    supercell: Supercell,
) -> dict[str, Any]:
    """How cells are matched, as plain numbers that a job can hold; nothing for what is the default."""
    if match is not None and (substrate_supercell is not None or film_supercell is not None):
        raise StructureError("give a match or supercells of both sides, not both")
    if match is not None:
        # the matrices say it all; strains are those of the relaxed crystals
        substrate_supercell, film_supercell = match.substrate, match.film
    given = {
        "max_area": None if max_area == MAX_AREA else float(max_area),
        "substrate_supercell": _plain(substrate_supercell),
        "film_supercell": _plain(film_supercell),
        "supercell": None if supercell == 1 else _plain(supercell),
    }
    return {key: value for key, value in given.items() if value is not None}


def _plain(supercell: Supercell | None) -> Any:
    return supercell if supercell is None else np.asarray(supercell).tolist()

"""Real crystals, calculators and junctions that several tests share; each is computed once."""

from __future__ import annotations

from functools import cache

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.lattice.supercell import BulkConstants, bulk_force_constants
from thermal_flows.potentials import resolve_potential
from thermal_flows.potentials.relaxation import relax
from thermal_flows.structures import build_interface, oriented_cell
from thermal_flows.transport import ConstructionSettings, Junction, TransmissionSpectrum, solve_transmission
from thermal_flows.transport.junctions.construction import Construction, construct_junction

SW, TERSOFF, EMT = "sw-si", "tersoff-si-ge", "emt"

PRIMITIVE = {
    "Si": bulk("Si", "diamond", a=5.43),
    "Ge": bulk("Ge", "diamond", a=5.66),
    "Cu": bulk("Cu", "fcc", a=3.61),
    "Ni": bulk("Ni", "fcc", a=3.52),
    "Al": bulk("Al", "fcc", a=4.05),
}


@cache
def calculator(potential: str) -> Calculator:
    return resolve_potential(potential).calculator()


@cache
def relaxed(symbol: str, potential: str) -> Atoms:
    """Primitive cell at the potential's own lattice constant."""
    return relax(PRIMITIVE[symbol], calculator(potential), "full", fmax=1e-8).atoms


@cache
def structure(symbol: str, potential: str) -> Structure:
    return AseAtomsAdaptor.get_structure(relaxed(symbol, potential))


@cache
def oriented(symbol: str, potential: str, miller: tuple[int, int, int]) -> Atoms:
    """Unstrained stacking unit."""
    return oriented_cell(structure(symbol, potential), miller).atoms


@cache
def bulk_constants(symbol: str, potential: str, **options: object) -> BulkConstants:
    return bulk_force_constants(relaxed(symbol, potential), calculator(potential), **options)


def construction(
    left: str,
    right: str,
    potential: str = TERSOFF,
    miller: tuple[int, int, int] = (0, 0, 1),
    termination: int = 0,
    **settings: object,
) -> Construction:
    """Junction left|right of relaxed crystals, at the default settings unless told otherwise."""
    return _construction(left, right, potential, miller, termination, **settings)


@cache
def _construction(
    left: str, right: str, potential: str, miller: tuple[int, int, int], termination: int, **settings: object
) -> Construction:
    interface = build_interface(
        structure(left, potential),
        structure(right, potential),
        substrate_miller=miller,
        film_miller=miller,
        substrate_termination=termination,
        film_termination=termination,
        max_strain=0.06,
    )
    return construct_junction(interface, calculator(potential), ConstructionSettings(**settings))


def solved(junction: Junction, q_mesh: tuple[int, int] = (4, 4), n_frequencies: int = 30) -> TransmissionSpectrum:
    return solve_transmission(junction, q_mesh, n_frequencies, n_workers=1)


def thz(matrices: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Frequencies of dynamical matrices, imaginary ones negative, ascending."""
    w2 = np.linalg.eigvalsh(matrices)
    return np.sign(w2) * np.sqrt(np.abs(w2)) * 15.633302


def random_pairs(rng: np.random.Generator, n_atoms: int = 3, n_pairs: int = 12) -> PairForceConstants:
    """Symmetric force constants of no crystal in particular, with duplicates."""
    i, j = rng.integers(n_atoms, size=(2, n_pairs))
    R = rng.integers(-2, 3, size=(n_pairs, 3))
    phi = rng.normal(size=(n_pairs, 3, 3))
    return PairForceConstants(
        np.eye(3) * 3 + rng.normal(scale=0.3, size=(3, 3)),
        rng.random((n_atoms, 3)) * 3,
        rng.uniform(1, 100, n_atoms),
        np.concatenate([i, j]),
        np.concatenate([j, i]),
        np.concatenate([R, -R]),
        np.concatenate([phi, phi.transpose(0, 2, 1)]),
    )


def phonopy_of(
    atoms: Atoms, repeats: tuple[int, int, int], potential: str, distance: float = 1e-3, primitive: object = None
) -> Phonopy:
    """phonopy's own workflow: displacements, forces, force constants."""
    unit = PhonopyAtoms(
        numbers=atoms.numbers, cell=np.array(atoms.cell), positions=atoms.positions, masses=atoms.get_masses()
    )
    matrix = np.eye(3) if primitive is None else primitive
    phonon = Phonopy(unit, np.diag(repeats), primitive_matrix=matrix, log_level=0)
    phonon.generate_displacements(distance=distance)
    forces = []
    for displaced in phonon.supercells_with_displacements:
        work = Atoms(numbers=displaced.numbers, cell=displaced.cell, positions=displaced.positions, pbc=True)
        work.calc = calculator(potential)
        forces.append(work.get_forces())
    phonon.forces = np.array(forces)
    phonon.produce_force_constants()
    return phonon


class ImpreciseCalculator(Calculator):
    """Another calculator seen through a coarse interface: single-precision positions, or forces with few decimals.

    Single precision is how many machine-learned potentials run by default; few decimals are how codes print.
    """

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 - ASE's own convention

    def __init__(self, exact: Calculator, decimals: int | None = None, single: bool = False) -> None:
        super().__init__()
        self.exact, self.decimals, self.single = exact, decimals, single

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)) -> None:
        super().calculate(atoms, properties, system_changes)
        work = atoms.copy()
        if self.single:
            work.positions = work.positions.astype(np.float32).astype(float)
        work.calc = self.exact
        forces = work.get_forces()
        if self.single:
            forces = forces.astype(np.float32).astype(float)
        if self.decimals is not None:
            forces = np.round(forces, self.decimals)
        self.results = {"energy": work.get_potential_energy(), "forces": forces, "stress": work.get_stress()}

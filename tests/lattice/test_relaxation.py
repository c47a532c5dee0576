"""Relaxation: what is left of force and stress, what is kept, and when it fails."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms

from thermal_flows.potentials.relaxation import RelaxationError, ThirdVectorFilter, relax
from thermal_flows.structures import build_interface

from .systems import SW, TERSOFF, calculator, oriented, structure


def strained_film(miller) -> Atoms:
    """Germanium on silicon's in-plane cell: along (113) it wants to shear."""
    interface = build_interface(
        structure("Si", TERSOFF), structure("Ge", TERSOFF), substrate_miller=miller, film_miller=miller
    )
    return interface.film


def test_gradient_of_the_third_vector_is_that_of_the_energy():
    atoms = strained_film((1, 1, 3)).repeat((1, 1, 2))
    atoms.rattle(0.05, seed=1)
    atoms.calc = calculator(TERSOFF)
    free = ThirdVectorFilter(atoms)
    x = free.get_positions()
    x[-1] = np.array([0.02, -0.03, 0.04]) * len(atoms)  # away from the undeformed cell
    free.set_positions(x)
    forces = free.get_forces()
    np.testing.assert_allclose(free.get_positions(), x, atol=1e-12)
    assert len(free) == len(x) == len(forces) == len(atoms) + 1
    numeric = np.zeros_like(forces)
    for i in np.ndindex(x.shape):
        energies = []
        for step in (-1e-4, 1e-4):
            moved = x.copy()
            moved[i] += step
            free.set_positions(moved)
            energies.append(free.get_potential_energy())
        numeric[i] = -(energies[1] - energies[0]) / 2e-4
    np.testing.assert_allclose(forces, numeric, atol=2e-6)


@pytest.mark.parametrize("miller", [(0, 0, 1), (1, 1, 1), (1, 1, 3)])
def test_no_traction_is_left_on_the_plane(miller):
    film = strained_film(miller)
    found = relax(film, calculator(TERSOFF), "normal", fmax=1e-6)
    np.testing.assert_array_equal(found.atoms.cell[:2], film.cell[:2])
    work = found.atoms.copy()
    work.calc = calculator(TERSOFF)
    stress = work.get_stress() * 160.21766
    assert np.abs(stress[[2, 3, 4]]).max() < 1e-4
    assert np.abs(stress[[2, 3, 4]]).max() == pytest.approx(found.max_stress, rel=1e-3, abs=1e-12)
    assert found.residual_shear <= found.max_stress
    assert np.abs(stress[[0, 1]]).min() > 1.0  # the strain of the plane remains, in GPa
    assert found.max_force == pytest.approx(np.linalg.norm(work.get_forces(), axis=1).max())
    assert found.max_force <= 1e-6
    assert found.energy == pytest.approx(work.get_potential_energy())
    assert found.energy < _energy(film)
    moved = np.abs(found.atoms.cell[2, :2] - film.cell[2, :2]).max()
    assert (moved > 1e-2) == (miller == (1, 1, 3))


def _energy(atoms: Atoms) -> float:
    work = atoms.copy()
    work.calc = calculator(TERSOFF)
    return work.get_potential_energy()


def test_film_of_the_substrate_keeps_its_shape():
    unit = oriented("Si", SW, (1, 1, 0))
    found = relax(unit, calculator(SW), "normal", fmax=1e-7)
    np.testing.assert_allclose(found.atoms.cell, unit.cell, atol=1e-6)
    assert found.steps <= 5


def test_cell_modes():
    atoms = bulk("Si", cubic=True, a=5.3)
    atoms.rattle(0.03, seed=2)
    fixed = relax(atoms, calculator(SW), "fixed", fmax=1e-5)
    np.testing.assert_array_equal(fixed.atoms.cell, atoms.cell)
    assert (fixed.max_stress, fixed.residual_shear) == (0.0, 0.0)
    full = relax(atoms, calculator(SW), "full", fmax=1e-5)
    assert full.energy < fixed.energy
    assert full.max_stress < 1e-3
    assert full.atoms.calc is None
    np.testing.assert_allclose(full.atoms.cell.cellpar(), [5.431] * 3 + [90] * 3, rtol=1e-4)


def test_soft_metals_relax_as_fast_as_stiff_crystals():
    """A stiffness guessed once and for all, such as that of a stiff crystal, takes several times as many steps here."""
    metal = bulk("Cu", cubic=True, a=3.7).repeat((1, 1, 6))
    metal.rattle(0.1, seed=3)
    found = relax(metal, calculator("emt"), "normal", fmax=1e-7)
    assert found.steps < 80
    ordered = relax(bulk("Cu", cubic=True, a=3.7), calculator("emt"), "normal", fmax=1e-7)
    assert found.energy == pytest.approx(6 * ordered.energy, abs=1e-9)


def test_fixed_atoms_of_a_file_are_freed():
    atoms = bulk("Si", cubic=True, a=5.431)
    atoms.rattle(0.05, seed=4)
    free = relax(atoms, calculator(SW), fmax=1e-6)
    atoms.set_constraint(FixAtoms(range(8)))
    found = relax(atoms, calculator(SW), fmax=1e-6)
    assert found.energy == pytest.approx(free.energy, abs=1e-10)
    assert found.steps == free.steps > 0
    assert len(atoms.constraints) == 1


def test_progress_and_a_start_that_is_a_minimum():
    seen = []
    at_rest = relax(
        bulk("Si", cubic=True), calculator(SW), fmax=0.1, progress=lambda done, total: seen.append((done, total))
    )
    assert at_rest.steps == 0
    assert seen == [(0, 2000)]


def test_unconverged_relaxation_states_the_numbers():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=5)
    with pytest.raises(
        RelaxationError,
        match=r"Si8 \(8 atoms, cell: fixed\) did not converge: largest force 0\.\d+ eV/A after 3 steps, 1e-05",
    ):
        relax(atoms, calculator(SW), max_steps=3)


class Divergent(Calculator):
    """A calculator whose forces stop being numbers once an atom has moved, as extrapolating models do."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - ASE's own convention

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)) -> None:
        super().calculate(atoms, properties, system_changes)
        if not np.all(np.isfinite(atoms.positions)):
            raise AssertionError("asked for forces at positions that are not numbers")
        moved = np.abs(atoms.positions).max() > 0.01
        self.results = {"energy": 0.0, "forces": np.full((len(atoms), 3), np.nan if moved else 1.0)}


def test_forces_that_are_not_numbers_end_the_relaxation():
    with pytest.raises(RelaxationError, match="largest force nan eV/A after 1 steps"):
        relax(Atoms("Si", cell=[9, 9, 9], pbc=True), Divergent())


@pytest.mark.parametrize("cell", ["normal", "full"])
def test_a_calculator_without_stress_cannot_relax_a_cell(cell):
    with pytest.raises(RelaxationError, match="Divergent has no stress"):
        relax(Atoms("Si", cell=[9, 9, 9], pbc=True), Divergent(), cell)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "z"}, "cell must be one of fixed, normal, full"),
        ({"fmax": 0.0}, "fmax must be positive"),
        ({"fmax": -1e-3}, "fmax must be positive"),
        ({"max_steps": -1}, "max_steps not negative"),
    ],
)
def test_unusable_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        relax(bulk("Si", cubic=True), calculator(SW), **options)


def test_tilted_planes_cannot_be_kept():
    with pytest.raises(ValueError, match="a1 and a2 must lie in the xy plane"):
        relax(bulk("Ar", "fcc", a=5.2), LennardJones(sigma=3.4, epsilon=0.01), "normal")

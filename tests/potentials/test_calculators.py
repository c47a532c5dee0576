import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell

from thermal_flows.potentials import PotentialError, resolve_potential

PRIMITIVE_TO_TRICLINIC = [[2, 0, 0], [1, 2, 0], [0, -1, 1]]
STARTS = {
    "tersoff-si-ge": ("Si", 5.5, 32),
    "tersoff-si-c": ("Si", 4.4, 6),
    "sw-si": ("Si", 5.43, 14),
    "emt": ("Cu", 3.65, 28),
}


def disturbed(name, cell="cubic", seed=0):
    symbol, a, other = STARTS[name]
    lattice = "fcc" if name == "emt" else "diamond"
    atoms = bulk(symbol, lattice, a, cubic=cell == "cubic")
    if cell == "triclinic":
        atoms = make_supercell(atoms, PRIMITIVE_TO_TRICLINIC)
    atoms.numbers[1::2] = other
    atoms.positions += 0.05 * np.random.default_rng(seed).normal(size=(len(atoms), 3))
    return atoms


def central_differences(atoms, quantity, h):
    """Derivative of ``quantity(atoms)`` by every coordinate, fourth order."""
    start = atoms.positions.copy()
    rows = []
    for k in range(start.size):
        values = []
        for step in (-2, -1, 1, 2):
            moved = start.copy()
            moved.flat[k] += step * h
            atoms.positions = moved
            values.append(np.array(quantity(atoms)))
        rows.append((values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h))
    atoms.positions = start
    return np.array(rows)


@pytest.mark.parametrize("cell", ["cubic", "triclinic", "primitive"])
@pytest.mark.parametrize("name", STARTS)
def test_forces_are_the_gradient_of_the_energy(name, cell):
    atoms = disturbed(name, cell)
    atoms.calc = resolve_potential(name).calculator()
    gradient = central_differences(atoms, lambda a: a.get_potential_energy(), 1e-3).reshape(-1, 3)
    assert -gradient == pytest.approx(atoms.get_forces(), abs=1e-7)


@pytest.mark.parametrize("cell", ["cubic", "triclinic", "primitive"])
@pytest.mark.parametrize("name", [name for name in STARTS if resolve_potential(name).analytic_hessian])
def test_hessians_are_the_gradient_of_the_forces_in_cells_smaller_than_the_cut_off(name, cell):
    atoms = disturbed(name, cell)
    atoms.calc = resolve_potential(name).calculator()
    hessian = atoms.calc.get_property("hessian", atoms).toarray()
    numerical = -central_differences(atoms, lambda a: a.get_forces().ravel(), 1e-3)
    assert hessian == pytest.approx(numerical, abs=2e-6)
    assert hessian == pytest.approx(hessian.T, abs=1e-11)
    assert hessian.reshape(len(hessian), -1, 3).sum(axis=1) == pytest.approx(0, abs=1e-11)


@pytest.mark.parametrize("name", STARTS)
def test_a_small_cell_has_the_energy_of_its_supercell(name):
    atoms = disturbed(name, "primitive")
    large = atoms * (3, 3, 3)
    atoms.calc = resolve_potential(name).calculator()
    large.calc = resolve_potential(name).calculator()
    assert large.get_potential_energy() == pytest.approx(27 * atoms.get_potential_energy(), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "symbol"), [("tersoff-si-ge", "C"), ("tersoff-si-c", "Al"), ("sw-si", "Ge"), ("emt", "C"), ("emt", "Fe")]
)
def test_elements_that_would_be_mistaken_for_others_are_refused(name, symbol):
    potential = resolve_potential(name)
    atoms = Atoms([next(iter(sorted(potential.elements))), symbol], [[0, 0, 0], [2.3, 0, 0]], cell=[8] * 3, pbc=True)
    with pytest.raises(PotentialError, match=rf"does not describe {symbol}; it knows"):
        potential.check_elements(atoms)
    atoms.calc = potential.calculator()
    with pytest.raises(PotentialError, match=rf"does not describe {symbol}"):
        atoms.get_potential_energy()
    if potential.analytic_hessian:
        with pytest.raises(PotentialError, match=rf"does not describe {symbol}"):
            atoms.calc.get_property("hessian", atoms)


def test_a_hessian_of_other_atoms_leaves_no_stale_energy():
    calculator = resolve_potential("sw-si").calculator()
    small, large = bulk("Si", "diamond", 5.43), bulk("Si", "diamond", 5.5, cubic=True)
    energy = calculator.get_potential_energy(small)
    hessian = calculator.get_hessian(large)
    assert hessian.shape == (24, 24)
    assert calculator.get_potential_energy(large) == pytest.approx(
        resolve_potential("sw-si").calculator().get_potential_energy(large)
    )
    assert calculator.get_potential_energy(small) == pytest.approx(energy)


def test_calculators_are_independent_and_quiet():
    potential = resolve_potential("tersoff-si-ge")
    first, second = potential.calculator(), potential.calculator()
    assert first is not second
    atoms = bulk("Si", "diamond", 5.43)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first.get_potential_energy(atoms)
        first.get_property("hessian", atoms)
    assert second.results == {}


def test_stillinger_weber_silicon():
    atoms = bulk("Si", "diamond", 5.431)
    atoms.calc = resolve_potential("sw-si").calculator()
    # epsilon = 2.1683 eV, two bonds of depth epsilon per atom
    assert atoms.get_potential_energy() / 2 == pytest.approx(-2 * 2.1683, abs=1e-3)

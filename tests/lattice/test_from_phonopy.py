"""A junction from a user's own phonopy calculations: two crystals and a junction, by phonopy's own workflow."""

from functools import cache

import numpy as np
import pytest
from ase import Atoms
from phonopy import Phonopy

from thermal_flows.lattice import ForceConstantsError
from thermal_flows.transport import JunctionError, junction_from_phonopy
from thermal_flows.transport.junctions.construction import interface_height

from .systems import SW, TERSOFF, construction, oriented, phonopy_of, solved

HEAVY = 2 * 28.0855


@cache
def three(
    film: str, potential: str, distance: float = 1e-3, mass: float | None = None
) -> tuple[Phonopy, Phonopy, Phonopy, float]:
    """Si|film (001): phonopy objects of both crystals and of the relaxed junction, and the height of the interface."""
    built = construction("Si", film, potential)
    relaxed = built.relaxations["junction"].atoms
    left, right = built.interface.substrate.copy(), built.interface.film.copy()
    if mass is not None:
        right.set_masses([mass] * len(right))
    junction = relaxed.copy()
    junction.set_masses(np.where(relaxed.arrays["side"] == 1, right.get_masses()[0], left.get_masses()[0]))
    return (
        phonopy_of(left, (3, 3, 3), potential, distance),
        phonopy_of(right, (3, 3, 3), potential, distance),
        phonopy_of(junction, (3, 3, 1), potential, distance),
        interface_height(relaxed),
    )


def heavy() -> tuple[Phonopy, Phonopy, Phonopy, float]:
    return three("Si", SW, mass=HEAVY)


@pytest.mark.parametrize("distance", [1e-2, 1e-3], ids=["phonopy's default displacement", "a small displacement"])
def test_silicon_germanium_agrees_with_our_own_route(distance):
    expected = solved(construction("Si", "Ge").assembly.junction)
    assembly = junction_from_phonopy(*three("Ge", TERSOFF, distance))
    found = solved(assembly.junction)
    np.testing.assert_allclose(found.conductance([50, 300]), expected.conductance([50, 300]), rtol=1e-4)
    assert max(assembly.mismatch) < 6 * distance**2
    assert assembly.junction.sum_rule_error() < 1e-10
    # phonopy moves a plane at height -1e-9 to the top of its cell: layers may begin one plane (an atom) further up
    sizes = assembly.junction.device.n_atoms, construction("Si", "Ge").assembly.junction.device.n_atoms
    assert abs(sizes[0] - sizes[1]) <= 1


def test_isotopes():
    """Si | heavy Si differ by their masses only: the conductance falls between nothing and the ballistic limit."""
    found = solved(junction_from_phonopy(*heavy()).junction)
    homogeneous = solved(junction_from_phonopy(*three("Si", SW)).junction)
    np.testing.assert_allclose(homogeneous.transmission, homogeneous.modes_left, atol=1e-6)
    assert 0.1 * homogeneous.conductance(300)[0] < found.conductance(300)[0] < 0.5 * homogeneous.conductance(300)[0]
    assert np.all(found.transmission <= np.minimum(found.modes_left, found.modes_right) + 1e-9)
    # frequencies of the heavy side are lower by the square root of the mass ratio
    tops = junction_from_phonopy(*heavy()).junction.top_frequencies
    assert tops[0] / tops[1] == pytest.approx(np.sqrt(HEAVY / 28.085), rel=1e-6)


def test_atoms_in_any_order_and_the_bulk_cells_wrapped():
    left, right, junction, z = heavy()
    built = construction("Si", "Si", SW)
    atoms = built.relaxations["junction"].atoms
    order = np.random.default_rng(3).permutation(len(atoms))
    masses = np.where(atoms.arrays["side"] == 1, HEAVY, 28.085)
    shuffled = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, masses=masses, pbc=True)[order]
    shuffled.positions += [0.4, -1.1, 0.1]
    shuffled.wrap()
    unit = built.interface.film.copy()
    unit.set_masses([HEAVY] * len(unit))
    unit.positions[:, 2] += 0.9 * unit.cell[2, 2]
    unit.wrap()  # a plane comes out at the other end of the cell
    unit.positions[0] += 2 * np.array(unit.cell)[2]
    found = junction_from_phonopy(left, phonopy_of(unit, (3, 3, 3), SW), phonopy_of(shuffled, (3, 3, 1), SW), z + 0.1)
    expected = junction_from_phonopy(left, right, junction, z)
    np.testing.assert_allclose(
        solved(found.junction).conductance(300), solved(expected.junction).conductance(300), rtol=1e-6
    )


def test_a_cutoff_below_the_range():
    expected = solved(junction_from_phonopy(*heavy()).junction).conductance(300)
    bonds_only = junction_from_phonopy(*heavy(), cutoff=3.0)
    assert np.linalg.norm(bonds_only.junction.device.vectors, axis=1).max() < 3.01
    assert abs(solved(bonds_only.junction).conductance(300)[0] / expected[0] - 1) > 0.01


def test_no_force_constants():
    left, right, junction, z = heavy()
    empty = Phonopy(left.unitcell, left.supercell_matrix, primitive_matrix=np.eye(3), log_level=0)
    with pytest.raises(ForceConstantsError, match="no force constants"):
        junction_from_phonopy(empty, right, junction, z)


def test_a_supercell_smaller_than_the_range():
    left, right, junction, z = heavy()
    unit = construction("Si", "Si", SW).interface.substrate
    small = phonopy_of(unit, (1, 3, 3), SW)
    message = r"left calculation \(shortest translation 3\.84 A\) does not hold the range.*give a cutoff below 1\.92"
    with pytest.raises(ForceConstantsError, match=message):
        junction_from_phonopy(small, right, junction, z, cutoff=2.5)
    narrow = phonopy_of(construction("Si", "Si", SW).relaxations["junction"].atoms, (3, 1, 1), SW)
    with pytest.raises(ForceConstantsError, match="supercell of the junction calculation"):
        junction_from_phonopy(left, right, narrow, z, cutoff=2.5)


def test_a_bulk_crystal_on_another_in_plane_cell():
    left, _, junction, z = three("Ge", TERSOFF)
    free = oriented("Ge", TERSOFF, (0, 0, 1))
    with pytest.raises(JunctionError, match=r"a1 and a2 of the right crystal differ from the junction's by 0\.\d+ A"):
        junction_from_phonopy(left, phonopy_of(free, (3, 3, 3), TERSOFF), junction, z)


def test_primitive_crystals_below_a_wider_junction():
    """The junction's in-plane cell doubled along a1: the bulk crystals are repeated to fit it."""
    left, right, junction, z = three("Ge", TERSOFF)
    atoms = construction("Si", "Ge").relaxations["junction"].atoms.repeat((2, 1, 1))
    wide = phonopy_of(atoms, (2, 3, 1), TERSOFF)
    one = junction_from_phonopy(left, right, junction, z, cutoff=4.05).junction
    two = junction_from_phonopy(left, right, wide, z, cutoff=4.05).junction
    assert two.left.n_atoms == 2 * one.left.n_atoms
    assert two.area == pytest.approx(2 * one.area)
    narrow, broad = solved(one, (4, 2), 12), solved(two, (2, 2), 12)
    assert broad.conductance(300)[0] == pytest.approx(narrow.conductance(300)[0], rel=1e-4)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_cells_that_are_not_written_along_z(which):
    phonons = list(three("Ge", TERSOFF))
    unit = phonons[which].unitcell
    order = [2, 0, 1]
    turned = Atoms(numbers=unit.numbers, cell=np.array(unit.cell)[order], positions=unit.positions, pbc=True)
    phonons[which] = phonopy_of(turned, (1, 1, 1), TERSOFF)
    with pytest.raises(JunctionError, match=r"must lie in the xy plane, the plane of the interface.*as a3 and turn it"):
        junction_from_phonopy(*phonons)


def test_masses_that_differ_between_the_calculations():
    left, right, junction, z = heavy()
    with pytest.raises(JunctionError, match=r"right lead have masses \[56\.\d+\] amu, the lead's \[28\.\d+\] amu"):
        junction_from_phonopy(left, left, junction, z)
    with pytest.raises(JunctionError, match=r"left lead have masses \[28\.\d+\] amu, the lead's \[56\.\d+\] amu"):
        junction_from_phonopy(right, right, junction, z)


def test_calculations_that_do_not_belong_together():
    """Bulk silicon of one potential, the junction of another."""
    left, right, _, z = heavy()
    atoms = construction("Si", "Si", SW).relaxations["junction"].atoms.copy()
    atoms.set_masses(np.where(atoms.arrays["side"] == 1, HEAVY, 28.085))
    other = phonopy_of(atoms, (3, 3, 1), TERSOFF)
    with pytest.raises(JunctionError, match=r"differ from the bulk crystals by \d.\d\de[-+]\d\d \(left\)"):
        junction_from_phonopy(left, right, other, z)


def test_the_mismatch_allowed_can_be_set():
    with pytest.raises(JunctionError, match=r"e-0[78] allowed|1e-07 allowed"):
        junction_from_phonopy(*three("Ge", TERSOFF), mismatch_tolerance=1e-7)

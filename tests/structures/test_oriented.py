from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from ase.neighborlist import neighbor_list
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from scipy.spatial.transform import Rotation

from thermal_flows.structures import StructureError, conventional_cell, crystal, oriented_cell
from thermal_flows.structures.integers import (
    extended_gcd,
    inverse_unimodular,
    miller_indices,
    plane_basis,
    primitive_basis,
)

TRICLINIC = Structure(
    Lattice.from_parameters(3.1, 4.2, 5.3, 77.0, 83.0, 96.0),
    ["Ga", "N", "N"],
    [[0, 0, 0], [0.4, 0.3, 0.2], [0.1, 0.6, 0.7]],
)
RHOMBOHEDRAL = Structure(Lattice.rhombohedral(4.1, 57.0), ["Sb", "Sb"], [[0.234] * 3, [0.766] * 3])
BODY_CENTRED_TETRAGONAL = Structure.from_spacegroup("I4/mmm", Lattice.tetragonal(3.3, 4.9), ["In"], [[0, 0, 0]])
BASE_CENTRED = Structure.from_spacegroup("Cmcm", Lattice.orthorhombic(2.9, 5.9, 5.0), ["U"], [[0, 0.1, 0.25]])
CRYSTALS = {
    "Si": crystal("Si"),
    "SiC": crystal("SiC"),
    "Fe": crystal("Fe"),
    "Mg": crystal("Mg"),
    "GaN": crystal("GaN"),
    "triclinic": TRICLINIC,
    "rhombohedral": RHOMBOHEDRAL,
    "tetragonal": BODY_CENTRED_TETRAGONAL,
    "base-centred": BASE_CENTRED,
}

indices = st.tuples(*[st.integers(-4, 4)] * 3).filter(any)


def neighbour_shells(atoms, cutoff):
    i, d = neighbor_list("id", atoms, cutoff)
    return sorted(tuple(np.round(np.sort(d[i == n]), 5)) for n in range(len(atoms)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(sorted(CRYSTALS)), miller=indices)
def test_oriented_cells_are_the_same_crystal_with_the_plane_in_xy(name, miller):
    structure = CRYSTALS[name]
    primitive = crystal(structure)
    unit = oriented_cell(structure, miller)
    cell = unit.atoms.cell.array
    h = unit.miller

    # exact: a1 and a2 in the plane, a3 one lattice plane higher
    products = [sum(a * b for a, b in zip(h, v, strict=True)) for v in unit.vectors]
    assert products[:2] == [0, 0]
    assert products[2] > 0
    reciprocal = np.linalg.inv(unit.conventional.lattice.matrix) @ h
    assert unit.height == pytest.approx(float(products[2]) / np.linalg.norm(reciprocal))

    assert np.all(cell[0, 1:] == 0)
    assert cell[0, 0] > 0
    assert cell[1, 1] > 0
    assert cell[1, 2] == 0
    assert np.linalg.det(cell) == pytest.approx(primitive.volume, rel=1e-9)
    assert len(unit.atoms) == len(primitive)
    assert unit.rotation @ unit.rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(unit.rotation) == pytest.approx(1.0)
    vectors = np.array(unit.vectors, dtype=float) @ unit.conventional.lattice.matrix
    assert vectors @ unit.rotation.T == pytest.approx(cell, abs=1e-8)

    # reduced: no shorter in-plane vectors, no shorter in-plane part of a3
    a1, a2 = unit.in_plane
    lengths = [np.linalg.norm(i * a1 + j * a2) for i, j in product(range(-3, 4), repeat=2) if (i, j) != (0, 0)]
    assert min(lengths) == pytest.approx(np.linalg.norm(a1))
    assert abs(a1 @ a2) <= 0.5 * (a1 @ a1) * (1 + 1e-5)
    steps = [np.linalg.norm(cell[2, :2] + i * a1 + j * a2) for i, j in product(range(-3, 4), repeat=2)]
    assert min(steps) == pytest.approx(np.linalg.norm(cell[2, :2]), abs=1e-6)

    z = unit.atoms.positions[:, 2]
    assert np.all(np.diff(z) > -1e-3)
    assert np.all((z >= 0) & (z < unit.height))
    inside = unit.atoms.positions[:, :2] @ np.linalg.inv(unit.in_plane)
    assert np.all((inside > -1e-3) & (inside < 1))
    assert np.abs(unit.atoms.positions[0, 2]) == 0

    # the rotated crystal: same neighbours at the same distances
    reference = AseAtomsAdaptor.get_atoms(primitive)
    assert neighbour_shells(unit.atoms, 4.5) == neighbour_shells(reference, 4.5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(["Si", "SiC", "GaN", "Mg"]),
    miller=indices,
    seed=st.integers(0, 2**31),
    origin=st.tuples(*[st.floats(0, 1)] * 3),
)
def test_the_unit_does_not_depend_on_how_the_crystal_was_given(name, miller, seed, origin):
    structure = CRYSTALS[name].copy()
    rng = np.random.default_rng(seed)
    change = np.array([[1, rng.integers(-2, 3), rng.integers(-2, 3)], [0, 1, rng.integers(-2, 3)], [0, 0, 1]])
    lattice = change @ structure.lattice.matrix @ Rotation.random(random_state=seed).as_matrix().T
    order = rng.permutation(len(structure))
    moved = Structure(
        Lattice(lattice),
        [structure[i].species for i in order],
        (structure.frac_coords @ np.linalg.inv(change))[order] + np.array(origin),
    )
    expected, given_otherwise = oriented_cell(structure, miller), oriented_cell(moved, miller)
    assert given_otherwise.vectors == expected.vectors
    assert given_otherwise.atoms.get_chemical_symbols() == expected.atoms.get_chemical_symbols()
    assert given_otherwise.atoms.cell.array == pytest.approx(expected.atoms.cell.array, abs=1e-5)
    assert given_otherwise.atoms.positions == pytest.approx(expected.atoms.positions, abs=1e-4)


def test_known_stacking_units():
    copper = oriented_cell("Cu", (1, 1, 1))
    a = copper.conventional.lattice.a
    assert copper.atoms.cell.cellpar()[:2] == pytest.approx([a / np.sqrt(2)] * 2)
    assert copper.atoms.cell.cellpar()[5] == pytest.approx(120.0)
    assert copper.height == pytest.approx(a / np.sqrt(3))
    assert [t.species for t in copper.terminations] == [("Cu",)]

    silicon = oriented_cell("Si", (1, 1, 1))
    a = silicon.conventional.lattice.a
    assert [t.spacing for t in silicon.terminations] == pytest.approx([a * np.sqrt(3) / 12, a * np.sqrt(3) / 4])
    assert silicon.terminations[0].spacing_below == pytest.approx(a * np.sqrt(3) / 4)
    assert oriented_cell("Si", (1, 1, 0)).terminations[0].species == ("Si", "Si")

    magnesium = oriented_cell("Mg", (0, 0, 0, 1))
    assert magnesium.vectors == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    assert len(magnesium.terminations) == 2

    unit = oriented_cell("Si", (0, 0, 1))
    half = Fraction(1, 2)
    assert unit.vectors == ((half, half, 0), (-half, half, 0), (half, 0, half))


def test_polar_faces_are_those_of_the_textbook():
    # SiC (111) is the silicon face: the bilayer has silicon above carbon
    silicon_face, carbon_face = oriented_cell("SiC", (1, 1, 1)), oriented_cell("SiC", (-1, -1, -1))
    assert [t.species for t in silicon_face.terminations] == [("C",), ("Si",)]
    assert [t.species for t in carbon_face.terminations] == [("Si",), ("C",)]
    # GaN (0001) is the gallium face
    assert [t.species for t in oriented_cell("GaN", (0, 0, 0, 1)).terminations] == [("N",), ("Ga",)] * 2


def test_terminations_are_cyclic_shifts_of_the_stack():
    for miller in [(0, 0, 0, 1), (1, 0, -1, 0), (1, 1, -2, 2)]:
        first = oriented_cell("GaN", miller)
        assert sum(t.spacing for t in first.terminations) == pytest.approx(first.height)
        for termination in first.terminations:
            unit = oriented_cell("GaN", miller, termination=termination.index)
            assert unit.terminations == first.terminations
            plane = np.flatnonzero(unit.atoms.positions[:, 2] < 0.05)
            assert tuple(sorted(unit.atoms.symbols[i] for i in plane)) == termination.species
            gap = unit.height - unit.atoms.positions[:, 2].max()
            assert gap == pytest.approx(termination.spacing_below)
            assert unit.atoms.positions[plane, :2].min(axis=0) == pytest.approx([0, 0], abs=1e-6)
            assert neighbour_shells(unit.atoms, 4.0) == neighbour_shells(first.atoms, 4.0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"miller": (0, 0, 0)}, "names no plane|name no plane"),
        ({"miller": (1, 0.5, 0)}, "must be integers"),
        ({"miller": (1, 1)}, "three Miller indices"),
        ({"miller": (1, 1, 1, 0)}, r"i = -\(h \+ k\)"),
        ({"miller": "001"}, "must be integers"),
        ({"miller": (1, 1, 1), "termination": 2}, r"no termination 2; choose from 0: Si, 0.784 A"),
    ],
)
def test_bad_planes_are_refused(arguments, says):
    with pytest.raises(StructureError, match=says):
        oriented_cell("Si", **arguments)


def test_multiples_of_miller_indices_name_the_same_stack():
    assert oriented_cell("Si", (0, 0, 4)).miller == (0, 0, 1)
    assert miller_indices((2, 1, -3, 4)) == (2, 1, 4)


@given(st.integers(-50, 50), st.integers(-50, 50))
def test_extended_gcd(a, b):
    g, p, q = extended_gcd(a, b)
    assert g == np.gcd(a, b)
    assert p * a + q * b == g


@given(st.tuples(*[st.integers(-30, 30)] * 3))
def test_plane_basis_spans_the_lattice(h):
    assume(any(h) and np.gcd.reduce(h) == 1)
    k1, k2, n3 = plane_basis(h)
    assert [int(np.dot(v, h)) for v in (k1, k2, n3)] == [0, 0, 1]
    inverse = np.array(inverse_unimodular([k1, k2, n3]))
    assert np.array_equal(np.array([k1, k2, n3]) @ inverse, np.eye(3, dtype=int))


def test_a_change_of_lattice_is_not_a_change_of_basis():
    with pytest.raises(ValueError, match="determinant 2"):
        inverse_unimodular([(2, 0, 0), (0, 1, 0), (0, 0, 1)])


@pytest.mark.parametrize(
    ("translations", "points"),
    [
        ([(0, 0, 0)], 1),
        ([(0, 1, 1), (1, 0, 1), (1, 1, 0)], 4),
        ([(1, 1, 1)], 2),
        ([(Fraction(4, 3), Fraction(2, 3), Fraction(2, 3)), (Fraction(2, 3), Fraction(4, 3), Fraction(4, 3))], 3),
    ],
)
def test_primitive_basis_of_centred_lattices(translations, points):
    halves = [tuple(Fraction(x) / 2 for x in t) for t in translations]
    basis = np.array(primitive_basis(halves), dtype=float)
    assert np.linalg.det(basis) == pytest.approx(1 / points)
    for vector in [*np.eye(3), *np.array(halves, dtype=float)]:
        coefficients = vector @ np.linalg.inv(basis)
        assert coefficients == pytest.approx(np.rint(coefficients), abs=1e-12)


def test_the_conventional_cell_is_pymatgens_for_centrosymmetric_crystals():
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    for name in ["Si", "Cu", "Mg"]:
        standard = SpacegroupAnalyzer(crystal(name)).get_conventional_standard_structure()
        assert conventional_cell(name).lattice.matrix == pytest.approx(standard.lattice.matrix)

"""Common cells of two crystals, terminations, explicit supercells, and what is refused."""

import json
from itertools import product

import numpy as np
import pytest
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from thermal_flows.structures import (
    StructureError,
    build_interface,
    crystal,
    equivalent_planes,
    find_matches,
    oriented_cell,
    terminations,
)
from thermal_flows.structures.coincidence import coincidences
from thermal_flows.structures.integers import common_divisor_of_minors, hermite_normal_form, sublattice_points
from thermal_flows.structures.matching import basis_from_metric, deformation, gauss_reduced

ALONE = [np.eye(2, dtype=int)]
SQUARE = [np.array(m).reshape(2, 2) for m in ((1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0))]
PLANES = [(0, 0, 1), (1, 1, 0), (1, 1, 1)]
HEXAGONAL = [(0, 0, 0, 1), (1, 0, -1, 0), (1, 1, -2, 0), (1, 0, -1, 1)]

seeds = st.integers(0, 10_000)


def random_basis(rng: np.random.Generator) -> np.ndarray:
    a, b = rng.uniform(2.5, 4.5, 2)
    return gauss_reduced(x := basis_from_metric(np.array([[a**2, c := rng.uniform(-0.4, 0.4) * a * b], [c, b**2]]))) @ x


def matrix(rng: np.random.Generator, limit: int = 4) -> np.ndarray:
    while True:
        m = rng.integers(-limit, limit + 1, (2, 2))
        if round(np.linalg.det(m)) > 0:
            return m


# -- integers


@given(seeds)
def test_hermite_form_is_that_of_the_lattice_and_not_of_its_basis(seed):
    rng = np.random.default_rng(seed)
    rows = np.hstack([matrix(rng), matrix(rng)])
    change = np.array([[1, rng.integers(-3, 4)], [0, 1]]) @ np.array([[0, 1], [1, rng.integers(-3, 4)]])
    assert hermite_normal_form(rows.tolist()) == hermite_normal_form((change @ rows).tolist())
    doubled = np.array([[2, 0], [0, 1]]) @ rows
    assert hermite_normal_form(rows.tolist()) != hermite_normal_form(doubled.tolist())
    assert common_divisor_of_minors(doubled.tolist()) % 2 == 0


@given(seeds)
def test_points_of_a_sublattice_cell_are_all_different_and_first_comes_the_origin(seed):
    m = matrix(np.random.default_rng(seed), 6)
    points = sublattice_points(m.tolist())
    assert len(points) == round(np.linalg.det(m))
    assert points[0].tolist() == [0, 0]
    fractions = points @ np.linalg.inv(m)
    assert np.all((fractions > -1e-9) & (fractions < 1 - 1e-9))


@given(seeds)
def test_reduced_bases(seed):
    rng = np.random.default_rng(seed)
    start = matrix(rng) @ random_basis(rng)
    change = gauss_reduced(start)
    assert round(np.linalg.det(change)) == 1
    a, b = change @ start
    vectors = [i * a + j * b for i, j in product(range(-3, 4), repeat=2) if (i, j) != (0, 0)]
    assert np.linalg.norm(a) == pytest.approx(min(map(np.linalg.norm, vectors)))
    assert abs(a @ b) <= (0.5 + 1e-5) * (a @ a)
    assert np.linalg.norm(a) <= np.linalg.norm(b) * (1 + 1e-6)


# -- matches


@given(seeds)
@settings(max_examples=20)
def test_a_match_that_exists_is_found(seed):
    """A film made so that a supercell of it is a strained supercell of the substrate."""
    rng = np.random.default_rng(seed)
    substrate = random_basis(rng)
    m_s, m_f = matrix(rng, 2), matrix(rng, 2)
    hidden = common_divisor_of_minors(np.hstack([m_s, m_f]).tolist())
    e = rng.uniform(-0.01, 0.01, 3)
    turn = np.radians(rng.uniform(-180, 180))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    stretch = np.eye(2) + np.array([[e[0], e[1]], [e[1], e[2]]])
    film = np.linalg.inv(m_f) @ m_s @ substrate @ (stretch @ rotation)
    area = abs(np.linalg.det(m_s @ substrate)) / hidden
    found = coincidences((substrate, film), (ALONE, ALONE), max_area=area * 1.001, max_strain=0.03)
    if hidden == 1:
        canonical = hermite_normal_form(np.hstack([m_s, m_f]).tolist())
        same = [m for m in found if m.canonical == canonical]
        assert len(same) == 1
        assert same[0].largest_strain == pytest.approx(np.abs(np.linalg.eigvalsh(np.linalg.inv(stretch)) - 1).max())
    else:
        assert found
    for match in found:
        own = [np.array(m) @ b for m, b in ((match.substrate, substrate), (match.film, film))]
        strain = deformation(own[1], own[0])
        assert strain.principal == pytest.approx(match.film_strain, abs=1e-9)
        assert strain.largest <= 0.03
        assert match.area == pytest.approx(abs(np.linalg.det(own[0])))
        assert match.area <= area * 1.0011
        assert match.rotation_deg == pytest.approx(strain.rotation_deg, abs=1e-6)
        assert common_divisor_of_minors(np.hstack([match.substrate, match.film]).tolist()) == 1


@pytest.mark.parametrize("strain", ["film", "substrate", "both"])
def test_matches_agree_with_brute_force(strain):
    """Every pair of sublattices in Hermite form, by hand."""
    substrate = np.array([[3.0, 0.0], [-0.7, 3.9]])
    film = np.array([[2.6, 0.0], [0.4, 3.1]])
    max_area, max_strain = 60.0, 0.06
    expected = set()

    def sublattices(basis, largest):
        for n in range(1, largest + 1):
            for a in (a for a in range(1, n + 1) if n % a == 0):
                for b in range(n // a):
                    h = np.array([[a, b], [0, n // a]])
                    yield gauss_reduced(h @ basis) @ h

    turns = [m for m in (np.array(x).reshape(2, 2) for x in product((-1, 0, 1), repeat=4)) if np.linalg.det(m) > 0.5]
    turns = [m for m in turns if round(np.linalg.det(m)) == 1]
    for h_s, h_f in product(list(sublattices(substrate, 6)), list(sublattices(film, 8))):
        one, two = h_s @ substrate, h_f @ film
        if abs(np.linalg.det(two) / np.linalg.det(one) - 1) > 0.15:
            continue
        for turn in turns:
            own = turn @ two
            kept = {
                "film": one,
                "substrate": own,
                "both": basis_from_metric(0.5 * (one @ one.T + own @ own.T)),
            }[strain]
            largest = max(np.abs(deformation(x, kept).principal).max() for x in (one, own))
            rows = np.hstack([h_s, turn @ h_f]).tolist()
            if largest <= max_strain and np.linalg.det(kept) <= max_area and common_divisor_of_minors(rows) == 1:
                expected.add(hermite_normal_form(rows))
    found = coincidences((substrate, film), (ALONE, ALONE), strain=strain, max_area=max_area, max_strain=max_strain)
    assert {m.canonical for m in found} == expected
    assert len(expected) > 1


def test_matches_that_symmetry_makes_equal_are_listed_once():
    bases = np.eye(2) * 3.0, np.diag([3.0, 4.5])
    alone = coincidences(bases, (ALONE, ALONE), max_area=100, max_strain=0.02)
    once = coincidences(bases, (SQUARE, ALONE), max_area=100, max_strain=0.02)
    assert len(once) < len(alone)
    assert {round(m.area, 6) for m in once} == {round(m.area, 6) for m in alone}
    assert [m.area for m in once] == sorted(m.area for m in once)


def test_aluminium_on_silicon():
    found = find_matches("Si", "Al", max_area=150)
    assert found[0].cells == (5, 9)
    assert found[0].area == pytest.approx(5 * 5.431020511**2 / 2)
    assert abs(found[0].rotation_deg) == pytest.approx(np.degrees(np.arctan(0.5)))
    assert found[0].largest_strain == pytest.approx(abs(np.sqrt(5) * 5.431020511 / (3 * 4.0496) - 1), abs=1e-6)
    straight = next(m for m in found if m.cells == (9, 16))
    assert straight.rotation_deg == 0.0
    assert straight.film_strain == pytest.approx([3 * 5.431020511 / (4 * 4.0496) - 1] * 2)
    assert straight.substrate_strain == pytest.approx([0, 0], abs=1e-12)
    assert json.loads(json.dumps(straight.as_dict()))["film_strain"] == list(straight.film_strain)
    assert [(m.area, m.largest_strain) for m in found] == sorted((m.area, m.largest_strain) for m in found)
    # what is found is what is built
    interface = build_interface("Si", "Al")
    assert interface.match == found[0]
    assert build_interface("Si", "Al", match=straight).match == straight


def test_four_cells_on_three_and_their_double():
    """408 atoms: 3 x 3 x 3 conventional cells of silicon, 4 x 4 x 3 of aluminium."""
    interface = build_interface("Si", "Al", substrate_supercell=3, film_supercell=(4, 4))
    atoms = interface.junction(6, 6)
    assert atoms.get_chemical_formula() == "Al192Si216"
    side = 3 * 5.431020511
    assert atoms.cell.array[:2] == pytest.approx(np.array([[side, 0, 0], [0, side, 0]]), abs=1e-9)
    assert len(interface.substrate) == 2
    assert len(interface.film) == 1
    assert interface.match.rotation_deg == 0.0
    assert interface.atoms_per_unit == (36, 32)
    double = build_interface("Si", "Al", substrate_supercell=3, film_supercell=4, supercell=2)
    assert double.atoms_per_unit == (144, 128)
    assert len(double.junction(6, 6)) == 4 * 408
    assert double.area == pytest.approx(4 * interface.area)
    # the units, and so all bulk properties, are the same
    for one, two in ((interface.substrate, double.substrate), (interface.film, double.film)):
        np.testing.assert_allclose(one.cell.array, two.cell.array, atol=1e-12)
        np.testing.assert_allclose(one.positions, two.positions, atol=1e-12)
    # with primitive vectors the 3 x 3 cell has half the area: no square of four primitive cells is a conventional one
    small = build_interface("Si", "Al", substrate_supercell=((3, 0), (0, 3)), film_supercell=((4, 0), (0, 4)))
    assert small.area == pytest.approx(interface.area / 2)


@pytest.mark.parametrize(
    ("options", "ratio"),
    [
        ({"supercell": 2}, 4),
        ({"supercell": (1, 3)}, 3),
        ({"supercell": ((1, 1), (-1, 1))}, 2),
        ({"substrate_supercell": 1, "film_supercell": 1}, 2),
        ({"substrate_supercell": ((2, 1), (0, 1)), "film_supercell": ((2, 1), (0, 1))}, 2),
    ],
    ids=str,
)
def test_supercells_of_a_pair_that_matches_are_the_same_crystal(options, ratio):
    plain, wide = build_interface("Si", "Ge"), build_interface("Si", "Ge", **options)
    assert wide.area == pytest.approx(ratio * plain.area)
    assert (plain.standard_match, wide.standard_match) == (True, False)
    small, large = plain.junction(2, 3), wide.junction(2, 3)
    assert len(large) == ratio * len(small)
    assert large.cell.array[0, 1:] == pytest.approx([0, 0])
    distances = [
        np.sort(np.round(neighbor_list("d", atoms, 5.5), 6))
        for atoms in (small.repeat((4, 4, 1)), large.repeat((2, 2, 1)))
    ]
    # the same number of every distance per atom
    for d in np.unique(np.round(distances[0], 4)):
        counts = [np.sum(np.abs(x - d) < 1e-3) for x in distances]
        assert counts[0] / (16 * len(small)) == pytest.approx(counts[1] / (4 * len(large)))


@pytest.mark.parametrize("strain", ["film", "substrate", "both"])
def test_units_of_a_mismatched_pair_share_the_common_cell(strain):
    interface = build_interface("Si", "Al", strain=strain)
    common = interface.in_plane_cell
    assert common[0, 1:] == pytest.approx([0, 0])
    for unit, supercell in (
        (interface.substrate, interface.substrate_supercell),
        (interface.film, interface.film_supercell),
    ):
        np.testing.assert_allclose(np.array(supercell) @ unit.cell.array[:2], common, atol=1e-10)
    if strain == "film":
        free = oriented_cell("Si", (0, 0, 1)).atoms
        assert interface.substrate.cell.lengths() == pytest.approx(free.cell.lengths())
    atoms = interface.junction(4, 4)
    silicon = atoms[atoms.arrays["side"] == 0]
    i, d = neighbor_list("id", silicon, 2.6)
    inner = (silicon.arrays["unit"][i] > 0) & (silicon.arrays["unit"][i] < 3)
    assert set(np.bincount(i[inner])[np.unique(i[inner])]) == {4}
    assert d.max() - d.min() < 0.02
    assert set(atoms.arrays["copy"][atoms.arrays["side"] == 1]) == set(range(interface.copies[1]))
    # exact copies in the plane and along the stack
    unit, copies = interface.film, sublattice_points(interface.film_supercell)
    film = atoms[atoms.arrays["side"] == 1]
    expected = film.positions[0] + copies[film.arrays["copy"]] @ unit.cell.array[:2]
    np.testing.assert_allclose(film.positions, expected + film.arrays["unit"][:, None] * unit.cell.array[2], atol=1e-10)


def test_the_shift_of_a_supercell_is_that_of_its_unit():
    one, two = (build_interface("Si", "Ge", shift=(0.5, 0.25), supercell=n).junction(1, 1) for n in (1, 2))
    for atoms in (one, two):
        film = atoms.positions[atoms.arrays["side"] == 1][0]
        a3 = np.array([one.positions[0], film])[1] - film
        assert a3 == pytest.approx(np.zeros(3))
    assert one.positions[one.arrays["side"] == 1][0] == pytest.approx(two.positions[two.arrays["side"] == 1][0])


def test_large_matches_are_searched_quickly_and_none_is_a_multiple():
    found = find_matches("Cu", "Ni", max_area=120, max_strain=0.03)
    assert found[0].cells == (1, 1)
    assert sum(m.rotation_deg == 0 and m.cells[0] == m.cells[1] for m in found) == 1


def test_a_film_turned_by_no_symmetry_of_its_plane_is_another_match():
    turns = [m.rotation_deg for m in find_matches("Si", "Ge", max_area=20)]
    assert turns == pytest.approx([0.0, 90.0])
    turned = build_interface("Si", "Ge", match=find_matches("Si", "Ge", max_area=20)[1])
    assert not turned.standard_match
    # both interfaces have lost the bonds that a diamond crystal goes on with
    assert [m.rotation_deg for m in find_matches("Cu", "Ni", max_area=10)] == [0.0]


# -- what is refused


def test_no_match_names_the_best_and_the_cure():
    with pytest.raises(StructureError) as error:
        build_interface("Si", "Al", max_area=20)
    text = str(error.value)
    assert "The best within max_area = 20 A^2 are 14.7 A^2 (1:2 cells, film turned 45.00 deg) at 5.17 %" in text
    assert "raise max_area to 74 A^2, which holds 73.7 A^2 (5:9 cells" in text
    assert "share the strain with strain='both'" in text
    shared = build_interface("Si", "Al", max_area=20, strain="both")
    assert shared.match.cells == (1, 2)
    assert find_matches("Si", "Al", max_area=20) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"substrate_supercell": 3}, "substrate_supercell and film_supercell together"),
        ({"substrate_supercell": 3, "film_supercell": 3}, r"strain the film \[34\.11, 34\.11\] %.*find_matches lists"),
        ({"substrate_supercell": 0, "film_supercell": 4}, "substrate_supercell must be positive"),
        ({"substrate_supercell": (3, 3, 3), "film_supercell": 4}, r"two of them \(n1, n2\) or a \(2, 2\) matrix"),
        ({"substrate_supercell": 1.5, "film_supercell": 4}, "substrate_supercell must be whole numbers"),
        ({"substrate_supercell": "3x3", "film_supercell": 4}, "substrate_supercell must be whole numbers"),
        ({"supercell": ((0, 1), (1, 0))}, "right-handed basis"),
        ({"max_area": 0.0}, "max_area must be a positive area"),
        ({"max_strain": float("nan")}, "max_strain must be a number"),
    ],
    ids=str,
)
def test_supercells_that_cannot_be(options, message):
    with pytest.raises(StructureError, match=message):
        build_interface("Si", "Al", **options)


def test_a_match_and_supercells_exclude_each_other():
    match = find_matches("Si", "Ge")[0]
    with pytest.raises(StructureError, match="not both"):
        build_interface("Si", "Ge", match=match, substrate_supercell=1, film_supercell=1)
    with pytest.raises(StructureError, match="more than max_strain = 1 %"):
        build_interface("Si", "Ge", match=match, max_strain=0.01)


@pytest.mark.parametrize("vacuum", [12.0, 30.0])
def test_a_slab_in_place_of_a_crystal(vacuum):
    from pymatgen.core.surface import SlabGenerator

    slab = SlabGenerator(crystal("Cu").to_conventional(), (0, 0, 1), 8, vacuum).get_slab()
    with pytest.raises(
        StructureError, match=r"empty gap of \d+\.\d A.*slab.*vacuum and not a bulk crystal.*Give the bulk"
    ):
        build_interface("Si", slab)
    molecule = Structure(Lattice.cubic(15), ["N", "N"], [[0, 0, 0], [0.07, 0, 0]])
    with pytest.raises(StructureError, match="not a bulk crystal"):
        crystal(molecule)


def test_open_crystals_are_no_slabs():
    graphite = Structure.from_spacegroup(
        "P6_3/mmc", Lattice.hexagonal(2.46, 6.71), ["C", "C"], [[0, 0, 0.25], [1 / 3, 2 / 3, 0.25]]
    )
    assert len(crystal(graphite)) == 4
    assert len(crystal(Structure.from_spacegroup("Fm-3m", Lattice.cubic(6.2), ["Xe"], [[0, 0, 0]]))) == 1


# -- terminations


@pytest.mark.parametrize(
    ("name", "miller", "expected"),
    [
        # composition and the plane to which each is equal
        ("Si", (0, 0, 1), [("Si", 0), ("Si", 0)]),
        ("Si", (1, 1, 1), [("Si", 0), ("Si", 1)]),
        ("Si", (1, 1, 0), [("Si2", 0)]),
        ("SiC", (0, 0, 1), [("C", 0), ("Si", 1)]),
        ("SiC", (1, 1, 0), [("C Si", 0)]),
        ("Cu", (1, 1, 1), [("Cu", 0)]),
        ("Mg", (0, 0, 0, 1), [("Mg", 0), ("Mg", 0)]),
        ("Mg", (1, 0, -1, 0), [("Mg", 0), ("Mg", 1)]),
        ("Mg", (1, 1, -2, 0), [("Mg2", 0)]),
    ],
    ids=str,
)
def test_terminations_of_known_planes(name, miller, expected):
    assert [(t.composition, t.equivalent_to) for t in terminations(name, miller)] == expected


@pytest.mark.parametrize("name", ["SiC", "GaN", "Mg", "MgO"])
@pytest.mark.parametrize("miller", [*PLANES, (1, 1, 2), (2, 1, 3)], ids=str)
def test_no_termination_is_left_out(name, miller):
    planes = terminations(name, miller)
    unit = oriented_cell(name, miller)
    assert sorted(s for t in planes for s in t.species) == sorted(unit.atoms.get_chemical_symbols())
    # planes are up to the tolerance thick
    assert unit.height - 0.05 * len(planes) < sum(t.spacing for t in planes) < unit.height + 1e-9
    for t in planes:
        assert planes[t.equivalent_to].equivalent_to == t.equivalent_to
        assert planes[t.equivalent_to].species == t.species
        assert planes[t.equivalent_to].spacing == pytest.approx(t.spacing, abs=1e-3)
        # each can be built, and is what it says
        cut = oriented_cell(name, miller, termination=t.index)
        lowest = cut.atoms[cut.atoms.positions[:, 2] < 0.05]
        assert sorted(lowest.get_chemical_symbols()) == list(t.species)


@pytest.mark.parametrize(
    ("name", "planes"), [("Mg", HEXAGONAL), ("GaN", HEXAGONAL), ("SiC", [*PLANES, (1, 1, 2), (2, 1, 3)])]
)
def test_both_interfaces_of_a_superlattice_are_named(name, planes):
    """Along low, high and oblique planes, with every termination of the film."""
    for miller in planes:
        for t in terminations(name, miller):
            interface = build_interface(
                name, name, substrate_miller=miller, film_miller=miller, film_termination=t.index
            )
            lower, upper = interface.contacts
            assert lower.endswith(f"plane {t.index} ({t.composition})")
            atoms = interface.junction(3, 3)
            heights = atoms.positions[:, 2]
            for contact, z in ((lower, atoms.info["interface_z"]), (upper, atoms.info["second_interface_z"])):
                below, above = (part.split("(")[-1].rstrip(")") for part in contact.split(" | "))
                top = atoms[np.abs(heights - heights[heights < z].max()) < 0.05]
                start = heights[heights > z].min() if np.any(heights > z) else heights.min()
                bottom = atoms[np.abs(heights - start) < 0.05]
                assert sorted(top.get_chemical_symbols()) == sorted(_symbols(below))
                assert sorted(bottom.get_chemical_symbols()) == sorted(_symbols(above))


def _symbols(composition: str) -> list[str]:
    found = []
    for part in composition.split():
        symbol = part.rstrip("0123456789")
        found += [symbol] * int(part[len(symbol) :] or 1)
    return found


def test_equivalent_planes():
    assert equivalent_planes("Si", (1, 0, 0))[0] == (0, 0, 1)
    assert [len(equivalent_planes("Si", m)) for m in ((0, 0, 1), (1, 1, 0), (1, 1, 1), (1, 2, 3))] == [6, 12, 8, 48]
    # no centre of inversion: the two faces differ
    assert len(equivalent_planes("SiC", (1, 1, 1))) == 4
    assert equivalent_planes("GaN", (0, 0, 1)) == [(0, 0, 1)]

import json

import numpy as np
import pytest
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from thermal_flows.structures import StructureError, build_interface, crystal, oriented_cell
from thermal_flows.structures.matching import basis_from_metric, deformation, match_bases

CUTOFF = {"Si": 2.8, "SiC": 2.2, "Cu": 3.0}


def coordination(atoms, cutoff):
    i, d = neighbor_list("id", atoms, cutoff)
    return np.bincount(i, minlength=len(atoms)), d


@pytest.mark.parametrize(
    ("miller", "termination"),
    [((0, 0, 1), 0), ((0, 0, 1), 1), ((1, 1, 0), 0), ((1, 1, 1), 0), ((1, 1, 1), 1), ((1, 1, 2), 0), ((1, 1, 3), 1)],
)
@pytest.mark.parametrize("film", ["Si", "Ge"])
def test_diamond_crystals_continue_each_other(film, miller, termination):
    interface = build_interface(
        "Si",
        film,
        substrate_miller=miller,
        film_miller=miller,
        substrate_termination=termination,
        film_termination=termination,
    )
    for numbers in [(1, 1), (3, 2)]:
        atoms = interface.junction(*numbers)
        count, distances = coordination(atoms, CUTOFF["Si"])
        assert np.all(count == 4)
        bond = np.sqrt(3) / 4 * 5.431020511
        if film == "Si":
            assert distances == pytest.approx(bond, abs=1e-9)
        else:
            assert distances.min() > bond - 1e-9
            assert distances.max() < 1.045 * bond  # heights of Ge are unrelaxed


def test_silicon_on_silicon_has_the_energy_of_the_bulk():
    from matscipy.calculators.manybody import Manybody
    from matscipy.calculators.manybody.explicit_forms.stillinger_weber import (
        Stillinger_Weber_PRB_31_5262_Si,
        StillingerWeber,
    )

    bulk = crystal("Si").to_ase_atoms() * (3, 3, 3)
    bulk.calc = Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si))
    expected = bulk.get_potential_energy() / len(bulk)
    for miller in [(0, 0, 1), (1, 1, 0), (1, 1, 1)]:
        atoms = build_interface("Si", "Si", substrate_miller=miller, film_miller=miller).junction(4, 4) * (3, 3, 1)
        atoms.calc = Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si))
        assert atoms.get_potential_energy() / len(atoms) == pytest.approx(expected, abs=1e-9)
        assert np.abs(atoms.get_forces()).max() < 1e-9


def test_order_arrays_and_positions_of_a_junction():
    interface = build_interface("Si", "Ge", substrate_miller=(1, 1, 1), film_miller=(1, 1, 1))
    atoms = interface.junction(3, 4)
    a3_s, a3_f = interface.substrate.cell[2], interface.film.cell[2]
    assert len(atoms) == 14
    assert atoms.arrays["side"].tolist() == [0] * 6 + [1] * 8
    assert atoms.arrays["unit"].tolist() == [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2, 3, 3]
    assert atoms.arrays["site"].tolist() == [0, 1] * 7
    assert atoms.get_chemical_symbols() == ["Si"] * 6 + ["Ge"] * 8
    for n in range(3):
        here = (atoms.arrays["side"] == 0) & (atoms.arrays["unit"] == n)
        assert np.array_equal(atoms.positions[here], interface.substrate.positions + n * a3_s)
    film = atoms.positions[6:].reshape(4, 2, 3)
    assert film - film[0] == pytest.approx(np.arange(4)[:, None, None] * np.array(a3_f) + np.zeros((2, 3)))
    assert atoms.cell.array[:2].tolist() == interface.substrate.cell.array[:2].tolist()
    assert atoms.cell.array[2] == pytest.approx(3 * a3_s + 4 * a3_f)
    assert film[0, 0, :2] == pytest.approx(3 * a3_s[:2])

    spacing = [oriented_cell(name, (1, 1, 1)).terminations[1].spacing for name in ("Si", "Ge")]
    last, first = atoms.positions[:6, 2].max(), atoms.positions[6:, 2].min()
    assert first - last == pytest.approx(np.mean(spacing))
    assert atoms.info["interface_z"] == pytest.approx((first + last) / 2)
    wrapped = atoms.positions[:, 2].min() + atoms.cell[2, 2] - atoms.positions[:, 2].max()
    assert wrapped == pytest.approx(np.mean(spacing))


def test_gap_and_shift_move_the_film_as_a_block():
    interface = build_interface("diamond", "Cu", gap=2.2, shift=(0.5, 0.25))
    atoms = interface.junction(4, 3)
    film, substrate = atoms[atoms.arrays["side"] == 1], atoms[atoms.arrays["side"] == 0]
    assert film.positions[:, 2].min() - substrate.positions[:, 2].max() == pytest.approx(2.2)
    assert atoms.cell[2, 2] - film.positions[:, 2].max() == pytest.approx(2.2)
    plain = interface.junction(4, 3, shift=(0, 0))
    moved = atoms.positions - plain.positions
    a1, a2 = atoms.cell.array[:2]
    assert moved[substrate.arrays["unit"].size :] == pytest.approx(np.tile(0.5 * a1 + 0.25 * a2, (3, 1)))
    assert np.all(moved[: len(substrate)] == 0)
    assert atoms.cell.array[2, :2] == pytest.approx(plain.cell.array[2, :2])
    assert interface.junction(4, 3, gap=3.0).cell[2, 2] - atoms.cell[2, 2] == pytest.approx(1.6)


@pytest.mark.parametrize("strain", ["film", "substrate", "both"])
def test_strain_goes_where_it_is_asked_and_is_reported(strain):
    interface = build_interface("diamond", "Cu", strain=strain)
    report = json.loads(json.dumps(interface.strain))
    a_s, a_f = 3.56683 / np.sqrt(2), 3.6146 / np.sqrt(2)
    common = {"film": a_s, "substrate": a_f, "both": np.sqrt((a_s**2 + a_f**2) / 2)}[strain]
    assert interface.area == pytest.approx(common**2)
    assert report["strained"] == strain
    for side, own in (("substrate", a_s), ("film", a_f)):
        e = common / own - 1
        assert report[side]["principal"] == pytest.approx([e, e], abs=1e-12)
        assert np.array(report[side]["engineering"]) == pytest.approx(e * np.eye(2), abs=1e-12)
        assert np.array(report[side]["green_lagrange"]) == pytest.approx((e + e**2 / 2) * np.eye(2), abs=1e-12)
        assert report[side]["rotation_deg"] == 0.0
    assert np.array_equal(interface.substrate.cell.array[:2], interface.film.cell.array[:2])
    assert interface.substrate.get_volume() == pytest.approx(
        interface.area * oriented_cell("diamond", (0, 0, 1)).height
    )
    assert interface.label == "C(001)|Cu(001)"
    assert build_interface("SiC", "SiC", substrate_miller=(1, 1, -2), film_miller=(1, 1, -2)).label == (
        "SiC(1 1 -2)|SiC(1 1 -2)"
    )


def test_incommensurate_pairs_are_refused_with_the_numbers():
    with pytest.raises(
        StructureError, match=r"Al\(001\) on Si\(001\).*34\.1.*5 %.*3\.8403.*2\.8635.*raise max_strain"
    ) as e:
        build_interface("Si", "Al", max_area=14)
    assert "strain='both'" not in str(e.value)  # it would not help
    with pytest.raises(StructureError, match="share the strain with strain='both'"):
        build_interface("Si", "Ge", max_strain=0.03, max_area=100)
    assert build_interface("Si", "Ge", strain="both", max_strain=0.03).strain["strained"] == "both"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strain": "neither"}, "'film', 'substrate' or 'both'"),
        ({"max_strain": -0.1}, "max_strain"),
        ({"gap": -1.0}, "positive distance"),
        ({"shift": (0.1, 0.2, 0.3)}, "two fractions"),
        ({"film_termination": 7}, "no termination 7"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(StructureError, match=says):
        build_interface("Si", "Ge", **options)


@pytest.mark.parametrize("numbers", [(0, 1), (1, -2), (1.5, 2)])
def test_numbers_of_units_are_positive_integers(numbers):
    with pytest.raises(StructureError, match="positive integer"):
        build_interface("Si", "Ge").junction(*numbers)


def test_relaxed_units_replace_the_strained_ones():
    interface = build_interface("Si", "Ge")
    film = interface.film.copy()
    cell = film.cell.array.copy()
    cell[2, 2] *= 1.03
    film.set_cell(cell, scale_atoms=True)
    relaxed = interface.with_units(interface.substrate, film)
    assert relaxed.film.cell[2, 2] == pytest.approx(1.03 * interface.film.cell[2, 2])
    assert interface.film.cell[2, 2] != relaxed.film.cell[2, 2]
    assert relaxed.strain == interface.strain
    count, _ = coordination(relaxed.junction(3, 3), CUTOFF["Si"])
    assert np.all(count == 4)

    with pytest.raises(StructureError, match="same atoms in the same order"):
        interface.with_units(film, film)
    cell[0, 0] *= 1.001
    film.set_cell(cell)
    with pytest.raises(StructureError, match="another in-plane cell"):
        interface.with_units(interface.substrate, film)
    upside_down = interface.film.copy()
    upside_down.set_cell(interface.film.cell.array * [[1], [1], [-1]])
    with pytest.raises(StructureError, match="upwards"):
        interface.with_units(interface.substrate, upside_down)


def test_a_film_given_in_a_turned_setting_still_finds_its_match():
    # equivalent planes whose own axes differ: the film is turned, the strain stays that of the metric
    reference = build_interface("Si", "Ge", substrate_miller=(1, 1, 0), film_miller=(1, 1, 0))
    for miller in [(0, 1, 1), (1, 0, -1), (-1, 1, 0)]:
        other = build_interface("Si", "Ge", substrate_miller=(1, 1, 0), film_miller=miller)
        assert other.strain["film"]["principal"] == pytest.approx(reference.strain["film"]["principal"])
        count, _ = coordination(other.junction(2, 2), CUTOFF["Si"])
        assert len(count) == 8


def test_a_rectangular_film_is_turned_onto_a_rectangular_substrate():
    slab = Structure(Lattice.orthorhombic(3.0, 4.0, 5.0), ["Cu"], [[0, 0, 0]])
    turned = Structure(Lattice.orthorhombic(2.0, 2.9, 4.1), ["Ni"], [[0, 0, 0]])
    interface = build_interface(slab, turned, film_miller=(1, 0, 0))
    assert interface.strain["film"]["principal"] == pytest.approx([4 / 4.1 - 1, 3 / 2.9 - 1])
    assert interface.film.get_volume() == pytest.approx(2.0 * 12.0)


angle = st.floats(-180, 180)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), theta=angle)
def test_a_lattice_matches_itself_in_any_basis_without_strain(seed, theta):
    rng = np.random.default_rng(seed)
    substrate = basis_from_metric(np.array([[9.0, x := rng.uniform(-4.4, 4.4)], [x, rng.uniform(9.0, 16.0)]]))
    t = np.radians(theta)
    film = substrate @ np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]])
    matrix, strain = match_bases(substrate, film)
    assert np.linalg.det(matrix) == pytest.approx(1)
    assert strain.largest < 1e-3
    # at most the tie tolerance is given away for a smaller rotation
    gradient = deformation(matrix @ film, substrate)
    assert gradient.rotation_deg == strain.rotation_deg


@settings(max_examples=40, deadline=None)
@given(theta=st.floats(-89, 89), e=st.tuples(*[st.floats(-0.2, 0.2)] * 3))
def test_the_strain_is_what_was_applied(theta, e):
    unstrained = np.array([[3.0, 0.0], [-1.2, 2.5]])
    stretch = np.array([[1 + e[0], e[2]], [e[2], 1 + e[1]]])
    t = np.radians(theta)
    rotation = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    found = deformation(unstrained, unstrained @ (stretch @ rotation).T)
    assert found.stretch == pytest.approx(stretch, abs=1e-12)
    assert found.rotation_deg == pytest.approx(theta, abs=1e-9)
    assert found.principal == pytest.approx(np.linalg.eigvalsh(stretch) - 1, abs=1e-12)


def test_equal_lattices_keep_their_alignment():
    square, hexagon = np.eye(2) * 3.8, np.array([[2.5, 0.0], [-1.25, 2.5 * np.sqrt(3) / 2]])
    for lattice in (square, hexagon):
        matrix, strain = match_bases(lattice, lattice * 1.03)
        assert np.array_equal(matrix, np.eye(2))
        assert strain.rotation_deg == 0.0

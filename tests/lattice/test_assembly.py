"""Cutting the device out of a junction supercell and stitching it to its leads."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from ase import Atoms

from thermal_flows.lattice.hessian import hessian_rows
from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.lattice.supercell import Supercell, bulk_force_constants, pairs_from_supercell, repeats_for
from thermal_flows.transport import JunctionError, solve_modes
from thermal_flows.transport.junctions.assembly import (
    Assembly,
    assemble,
    check_interface,
    check_orientation,
    find_window,
    principal_layer,
)
from thermal_flows.transport.junctions.construction import Construction, interface_height

from .systems import SW, TERSOFF, calculator, construction, oriented, solved, thz

Q = np.random.default_rng(5).uniform(-1, 1, (6, 3))


def layers(built: Construction):
    return principal_layer(built.substrate.pairs), principal_layer(built.film.pairs)


def stitched(built: Construction, junction: Atoms, potential: str = TERSOFF) -> Assembly:
    """The steps of the construction, on any writing of its relaxed junction."""
    left, right = layers(built)
    window = find_window(junction, left, right, interface_height(junction), built.cutoff)
    supercell = Supercell.build(junction, repeats_for(junction, 1.05 * built.cutoff))
    hessian = hessian_rows(supercell.atoms, calculator(potential), window.atoms)
    pairs = pairs_from_supercell(supercell, hessian)
    return assemble(left, right, pairs, window, built.cutoff, (built.substrate.cutoff, built.film.cutoff))


@cache
def si_ge() -> tuple[Construction, Atoms]:
    built = construction("Si", "Ge")
    return built, built.relaxations["junction"].atoms


def reordered(atoms: Atoms, order) -> Atoms:
    copy = atoms[order]
    copy.info = dict(atoms.info)
    return copy


# -- principal layers


def test_a_principal_layer_holds_the_range():
    pairs = bulk_force_constants(oriented("Si", SW, (1, 1, 0)), calculator(SW)).pairs
    reach = int(np.abs(pairs.R[:, 2]).max())
    assert reach == 2
    with pytest.raises(
        JunctionError, match=r"principal layer of 1 units is shorter than the force range.*use at least 2"
    ):
        principal_layer(pairs, 1)
    for n in (2, 3, 5):
        layer = principal_layer(pairs, n)
        assert layer.n_atoms == n * pairs.n_atoms
        assert np.abs(layer.R[:, 2]).max() == 1
        assert layer.asymmetry() == 0.0
        # the modes of n wave vectors of the unit, folded
        folded = np.concatenate([thz(pairs.dynamical_matrices([[0.1, 0.3, (0.4 + k) / n]]))[0] for k in range(n)])
        np.testing.assert_allclose(thz(layer.dynamical_matrices([[0.1, 0.3, 0.4]]))[0], np.sort(folded), atol=1e-8)


@pytest.mark.parametrize("jumps", [(0, 1), (3, -2), (0, -1)])
def test_a_unit_that_is_not_a_slab_is_made_one(jumps):
    pairs = bulk_force_constants(oriented("Si", SW, (0, 0, 1)), calculator(SW)).pairs
    n = np.zeros((2, 3), dtype=int)
    n[:, 2] = jumps
    scattered = dataclasses.replace(
        pairs, positions=pairs.positions + n @ pairs.cell, R=pairs.R + n[pairs.i] - n[pairs.j]
    )
    layer, reference = principal_layer(scattered), principal_layer(pairs)
    assert np.ptp(layer.positions[:, 2]) < layer.cell[2, 2]
    assert layer.n_atoms == reference.n_atoms
    np.testing.assert_allclose(thz(layer.dynamical_matrices(Q)), thz(reference.dynamical_matrices(Q)), atol=1e-8)


# -- homogeneous junctions


@pytest.mark.parametrize(
    ("miller", "termination"), [((0, 0, 1), 0), ((1, 1, 1), 0), ((1, 1, 1), 1), ((1, 1, 0), 0)], ids=str
)
def test_a_homogeneous_junction_is_the_bulk(miller, termination):
    built = construction("Si", "Si", SW, miller, termination)
    junction = built.assembly.junction
    assert max(built.assembly.mismatch) < 1e-10
    assert built.assembly.sum_rule_correction < 1e-10
    assert junction.sum_rule_error() < 1e-10
    # the device is a piece of the lead, everywhere
    n = junction.device.n_atoms // junction.left.n_atoms
    assert n * junction.left.n_atoms == junction.device.n_atoms
    bulk = principal_layer(junction.left, n)
    q = Q[:, :2]
    finite = np.linalg.eigvalsh(junction.device.dynamical_matrices(np.column_stack([q, np.zeros(len(q))])))
    piece = np.linalg.eigvalsh(bulk.dynamical_matrices(np.column_stack([q, np.zeros(len(q))]), only_R3=0))
    np.testing.assert_allclose(finite, piece, atol=1e-10)
    spectrum = solved(junction, (3, 3), 25)
    np.testing.assert_array_equal(spectrum.modes_left, spectrum.modes_right)
    np.testing.assert_allclose(spectrum.transmission, spectrum.modes_left, atol=1e-10)
    assert spectrum.conductance(300)[0] > 1000


def test_conductance_of_silicon_is_that_of_its_published_ballistic_limit():
    """1.2 GW/(m2 K) at 300 K along (001) for Stillinger-Weber silicon."""
    spectrum = solved(construction("Si", "Si", SW).assembly.junction, (6, 6), 60)
    assert spectrum.conductance(300)[0] == pytest.approx(1197, rel=0.03)


# -- Si|Ge


def test_outer_layers_are_those_of_the_leads():
    built, _ = si_ge()
    assert max(built.assembly.mismatch) < 1e-5
    junction = built.assembly.junction
    assert max(junction.block_mismatch()) == 0.0
    assert junction.sum_rule_error() < 1e-10
    assert junction.device.asymmetry() < 1e-15
    assert built.assembly.sum_rule_correction < 1e-5
    n_l, n_r = junction.left.n_atoms, junction.right.n_atoms
    for piece, lead in (
        (slice(0, n_l), junction.left),
        (slice(n_l, 2 * n_l), junction.left),
        (slice(-n_r, None), junction.right),
        (slice(-2 * n_r, -n_r), junction.right),
    ):
        np.testing.assert_allclose(junction.device.masses[piece], lead.masses)
        # same shape as the lead's layer, wherever it is
        np.testing.assert_allclose(
            junction.device.positions[piece] - junction.device.positions[piece][0],
            lead.positions - lead.positions[0],
            atol=1e-4,
        )


def test_long_waves_obey_the_impedances_of_the_crystals():
    """omega -> 0 at q = 0: 4 Z1 Z2 / (Z1 + Z2)^2 for each of the three polarisations, with Z = density * velocity."""
    junction = si_ge()[0].assembly.junction
    impedances = []
    for lead in (junction.left, junction.right):
        k = 1e-3
        thickness = lead.cell[2, 2]
        velocity = 2 * np.pi * thz(lead.dynamical_matrices([[0, 0, k * thickness / (2 * np.pi)]]))[0, :3] / k
        density = lead.masses.sum() / (junction.area * thickness)
        impedances.append(density * velocity)
    z1, z2 = (np.sort(z) for z in impedances)
    expected = (4 * z1 * z2 / (z1 + z2) ** 2).sum()
    found = solve_modes(junction, (0.0, 0.0), 0.02)
    assert len(found.left.transmittance) == 3
    assert found.left.transmittance.sum() == pytest.approx(expected, rel=2e-3)


def test_order_of_atoms_and_their_cells_are_free():
    built, atoms = si_ge()
    rng = np.random.default_rng(1)
    written = reordered(atoms, rng.permutation(len(atoms)))
    written.positions += rng.integers(-3, 4, size=(len(atoms), 2)) @ np.array(atoms.cell)[:2]
    one, two = built.assembly, stitched(built, written)
    np.testing.assert_allclose(two.mismatch, one.mismatch, atol=1e-10)
    expected, found = solved(one.junction), solved(two.junction)
    np.testing.assert_array_equal(found.modes_left, expected.modes_left)
    np.testing.assert_allclose(found.transmission, expected.transmission, atol=1e-9)
    np.testing.assert_allclose(found.conductance(300), expected.conductance(300), rtol=1e-9)


def test_the_whole_junction_may_be_wrapped_into_its_cell():
    built, atoms = si_ge()
    wrapped = atoms.copy()
    wrapped.positions[:, :2] += [0.7, -0.3]
    wrapped.positions[:, 2] += 0.1
    wrapped.wrap()
    expected, found = (solved(a.junction).conductance(300) for a in (built.assembly, stitched(built, wrapped)))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_lies_beyond_the_range_of_a_lead_is_neglected_and_not_a_mismatch():
    built, atoms = si_ge()
    left, right = layers(built)
    window = find_window(atoms, left, right, interface_height(atoms), built.cutoff)
    supercell = Supercell.build(atoms, repeats_for(atoms, 1.05 * built.cutoff))
    hessian = hessian_rows(supercell.atoms, calculator(TERSOFF), window.atoms)
    pairs = pairs_from_supercell(supercell, hessian)
    short = dataclasses.replace(left, phi=left.phi * (np.linalg.norm(left.vectors, axis=1) < 3.0)[:, None, None])
    second = np.abs(left.phi[np.linalg.norm(left.vectors, axis=1) > 3.0]).max()
    with_range = assemble(short, right, pairs, window, built.cutoff, (3.0, built.film.cutoff))
    assert with_range.mismatch[0] < 1e-5
    assert with_range.neglected == pytest.approx(second, rel=1e-3)
    without = assemble(short, right, pairs, window, built.cutoff)
    assert without.mismatch[0] == pytest.approx(second, rel=1e-3)


# -- choices of the principal layer that cannot matter


def oblique(layer: PairForceConstants, moves: tuple[int, int]) -> PairForceConstants:
    """The same layers with a3 + m1 a1 + m2 a2 for their third vector."""
    cell, R = layer.cell.copy(), layer.R.copy()
    cell[2] += np.array(moves) @ cell[:2]
    R[:, :2] -= R[:, 2:] * moves
    return dataclasses.replace(layer, cell=cell, R=R)


@pytest.mark.parametrize(("units", "moves"), [(None, (1, 0)), (None, (-2, 1)), (3, (0, 0)), (3, (-1, -1))], ids=str)
def test_two_principal_layers_of_a_111_plane_agree(units, moves):
    """Si|Ge (111), Tersoff: thicker layers, and third vectors that lean another way, from the same relaxed junction."""
    built = construction("Si", "Ge", TERSOFF, (1, 1, 1), 1, extra_layers=2)
    atoms = built.relaxations["junction"].atoms
    supercell = Supercell.build(atoms, repeats_for(atoms, 1.05 * built.cutoff))
    hessian = hessian_rows(supercell.atoms, calculator(TERSOFF), np.arange(len(atoms)))
    pairs = pairs_from_supercell(supercell, hessian)
    junctions = []
    for n, m in ((None, (0, 0)), (units, moves)):
        left, right = (oblique(principal_layer(bulk.pairs, n), m) for bulk in (built.substrate, built.film))
        window = find_window(atoms, left, right, interface_height(atoms), built.cutoff)
        found = assemble(left, right, pairs, window, built.cutoff, (built.substrate.cutoff, built.film.cutoff))
        assert max(found.mismatch) < 1e-5
        junctions.append(found.junction)
    one, other = junctions
    assert not np.allclose(one.left.cell, other.left.cell)
    rng = np.random.default_rng(3)
    compared = 0
    for q in rng.uniform(-0.3, 0.3, (4, 2)):
        for f in rng.uniform(2.0, 9.0, 8):
            a, b = (solve_modes(j, tuple(q), f) for j in junctions)
            assert len(a.left.transmittance) == len(b.left.transmittance)
            # what differs are the junctions: outer layers are replaced by the leads' where relaxation has left 1e-6 eV/A^2
            assert b.left.transmittance.sum() == pytest.approx(a.left.transmittance.sum(), abs=1e-8)
            compared += len(a.left.transmittance) > 0
    assert compared > 12


# -- what find_window refuses


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ((2, 0, 1), r"direction \(a1 now\?\) as a3 and turn it"),
        ((0, 2, 1), r"direction \(a2 now\?\) as a3 and turn it"),
        ((1, 0, 2), "right-handed.*Exchange a1 and a2"),
    ],
)
def test_cells_whose_third_vector_is_not_along_z(order, message):
    cell = np.diag([3.8, 4.1, 30.0])[list(order)]
    with pytest.raises(JunctionError, match=message):
        check_orientation("junction", cell)
    check_orientation("junction", np.array([[3.8, 0, 0], [-1.9, 3.2, 0], [0.7, 1.1, 30.0]]))
    upside_down = np.diag([3.8, 4.1, -30.0])
    with pytest.raises(JunctionError, match=r"a3 of the junction cell must point upwards \(positive z\)"):
        check_orientation("junction", upside_down)
    built, atoms = si_ge()
    turned = atoms.copy()
    turned.set_cell(np.array(atoms.cell)[[2, 0, 1]], scale_atoms=False)
    with pytest.raises(JunctionError, match="must lie in the xy plane, the plane of the interface"):
        find_window(turned, *layers(built), interface_height(atoms), built.cutoff)


def test_a_slab_in_vacuum_has_no_bulk_region():
    """Two units a side with vacuum beyond: no layer lies far enough from both surfaces."""
    built, _ = si_ge()
    slab = built.interface.junction(3, 3)
    cell = np.array(slab.cell)
    cell[2] += [0, 0, 15.0]
    slab.set_cell(cell, scale_atoms=False)
    with pytest.raises(JunctionError, match=r"no two whole principal layers of the left lead.*use a longer junction"):
        find_window(slab, *layers(built), interface_height(slab), built.cutoff)


def test_interface_outside_the_atoms():
    built, atoms = si_ge()
    for z in (-5.0, 100.0):
        with pytest.raises(JunctionError, match=f"interface at z = {z:.3f} A must lie between the junction's atoms"):
            find_window(atoms, *layers(built), z, built.cutoff)


def test_a_short_junction_says_on_which_side():
    built, _ = si_ge()
    short = built.interface.junction(2, 7)
    with pytest.raises(JunctionError, match=r"no two whole principal layers of the left lead.*use a longer junction"):
        find_window(short, *layers(built), interface_height(short), built.cutoff)
    short = built.interface.junction(7, 2)
    with pytest.raises(JunctionError, match="no two whole principal layers of the right lead"):
        find_window(short, *layers(built), interface_height(short), built.cutoff)


def test_leads_the_wrong_way_round():
    built, atoms = si_ge()
    left, right = layers(built)
    with pytest.raises(JunctionError, match=r"left lead have masses \[28.0\d+\] amu, the lead's \[72.\d+\]"):
        find_window(atoms, right, left, interface_height(atoms), built.cutoff)


def test_a_lead_of_another_orientation():
    built, atoms = si_ge()
    left, right = layers(built)
    turned = dataclasses.replace(left, positions=left.positions * [1, 1, 1.3])
    with pytest.raises(JunctionError, match="left bulk crystal has the junction's orientation"):
        find_window(atoms, turned, right, interface_height(atoms), built.cutoff)


def test_rows_are_needed_for_the_whole_window():
    built, atoms = si_ge()
    left, right = layers(built)
    window = find_window(atoms, left, right, interface_height(atoms), built.cutoff)
    supercell = Supercell.build(atoms, repeats_for(atoms, 1.05 * built.cutoff))
    hessian = hessian_rows(supercell.atoms, calculator(TERSOFF), window.atoms[:-2])
    with pytest.raises(JunctionError, match="force constants of 2 device atoms are missing"):
        assemble(left, right, pairs_from_supercell(supercell, hessian), window, built.cutoff)


# -- stability of the interface


def test_a_weakened_interface_is_found_unstable():
    junction = si_ge()[0].assembly.junction
    check_interface(junction)
    phi = junction.device.phi.copy()
    n = junction.device.n_atoms // 2
    across = (junction.device.i < n) != (junction.device.j < n)
    phi[across] *= -1
    for atom in range(junction.device.n_atoms):  # the sum rule of the changed bonds
        self_term = (junction.device.i == atom) & (junction.device.j == atom) & ~junction.device.R.any(axis=1)
        phi[self_term] -= 2 * phi[across & (junction.device.i == atom)].sum(axis=0)
    with pytest.raises(
        JunctionError, match=r"not at a minimum of the energy: frequency -\d.*at q = \(0.*leads held fixed"
    ):
        check_interface(dataclasses.replace(junction, device=dataclasses.replace(junction.device, phi=phi)))

"""From two crystals and a potential to a junction: planes, lengths, potentials, and what cannot be built."""

import dataclasses

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from thermal_flows.lattice import ForceConstantsError
from thermal_flows.potentials.relaxation import RelaxationError, relax
from thermal_flows.structures import build_interface
from thermal_flows.transport import (
    ConstructionSettings,
    JunctionError,
    UnstableLeadError,
    solve_modes,
    solve_transmission,
)
from thermal_flows.transport.junctions.construction import construct_junction, displaced, lengthened

from .systems import EMT, SW, TERSOFF, ImpreciseCalculator, calculator, construction, solved, structure


@pytest.mark.parametrize(("miller", "termination"), [((0, 0, 1), 0), ((1, 1, 1), 1), ((1, 1, 0), 0)], ids=str)
def test_silicon_germanium_on_several_planes(miller, termination):
    """The third vector of the leads is oblique on all of them."""
    built = construction("Si", "Ge", TERSOFF, miller, termination)
    assert max(built.assembly.mismatch) <= 1e-5
    assert built.history[-1][2:] == built.assembly.mismatch
    junction = built.assembly.junction
    assert np.abs(junction.left.cell[2, :2]).max() > 1.0
    assert junction.sum_rule_error() < 1e-10
    spectrum = solved(junction, (4, 4), 30)
    assert spectrum.checks.conservation_over_bound < 1
    assert spectrum.checks.reciprocity_over_bound < 1
    assert spectrum.checks.excess < 1e-9
    # the plane matters by some ten per cent, the strain of germanium by less
    assert 250 < spectrum.conductance(300)[0] < 420
    for part in built.relaxations.values():
        assert part.max_stress < 1e-4
        assert part.residual_shear < 1e-4


def test_a_film_that_shears_under_strain_matches_its_lead():
    """Germanium strained on (113) is sheared; had its third vector been kept, 6e-2 eV/A^2 of mismatch would stay for ever."""
    interface = build_interface(
        structure("Si", TERSOFF), structure("Ge", TERSOFF), substrate_miller=(1, 1, 3), film_miller=(1, 1, 3)
    )
    settings = ConstructionSettings(fmax=1e-4, max_lengthenings=0, mismatch_tolerance=1.0)
    short = construct_junction(interface, calculator(TERSOFF), settings)
    assert max(short.assembly.mismatch) < 1e-3
    assert np.abs(short.interface.film.cell[2] - interface.film.cell[2])[:2].max() > 0.01


def test_the_length_of_the_device_does_not_matter():
    short, long_ = construction("Si", "Ge"), construction("Si", "Ge", extra_layers=1)
    assert long_.assembly.junction.device.n_atoms >= short.assembly.junction.device.n_atoms + 4
    one, two = (solved(b.assembly.junction, (4, 4), 30) for b in (short, long_))
    np.testing.assert_array_equal(one.modes_left, two.modes_left)
    np.testing.assert_allclose(two.conductance([50, 300]), one.conductance([50, 300]), rtol=1e-6)


def test_finite_differences_change_nothing():
    analytic, numeric = construction("Si", "Ge"), construction("Si", "Ge", hessian="finite_differences")
    assert (analytic.hessian_method, numeric.hessian_method) == ("analytic", "finite_differences")
    assert numeric.step in (0.01, 0.005)
    one, two = (solved(b.assembly.junction, (4, 4), 30) for b in (analytic, numeric))
    np.testing.assert_allclose(two.conductance([50, 300]), one.conductance([50, 300]), rtol=1e-6)


# -- common cells of more than one primitive cell


def test_a_wider_common_cell_changes_nothing():
    """Si|Ge on a cell of twice the area: bulk from the same primitive units, leads exact copies, conductance unchanged."""
    interface = build_interface(structure("Si", TERSOFF), structure("Ge", TERSOFF), supercell=((1, 1), (-1, 1)))
    built, narrow = construct_junction(interface, calculator(TERSOFF)), construction("Si", "Ge")
    wide, plain = built.assembly.junction, narrow.assembly.junction
    assert built.substrate.pairs.n_atoms == narrow.substrate.pairs.n_atoms == 2
    assert (wide.left.n_atoms, wide.device.n_atoms) == (2 * plain.left.n_atoms, 2 * plain.device.n_atoms)
    assert max(built.assembly.mismatch) < 1e-5
    for lead in (wide.left, wide.right):
        # the second copy sits one primitive vector from the first and has the very same force constants
        n = lead.n_atoms // 2
        step = lead.positions[n:] - lead.positions[:n]
        np.testing.assert_allclose(step, np.broadcast_to(step[0], step.shape), atol=1e-12)
        np.testing.assert_array_equal(
            lead.phi.reshape(-1, 2, len(lead.phi) // 2, 3, 3)[:, 0], lead.phi[: len(lead.phi) // 2][None]
        )
    # every wave vector of the wide cell carries two of the narrow one
    q = np.array([0.11, 0.23])
    inverse = np.linalg.inv([[1, 1], [-1, 1]])
    frequencies = np.linspace(0.5, 9.0, 12)
    for f in frequencies:
        folded = [solve_modes(plain, tuple(inverse @ (q + shift)), f) for shift in ((0, 0), (1, 0))]
        found = solve_modes(wide, tuple(q), f)
        expected = sum(m.left.transmittance.sum() for m in folded)
        assert found.left.transmittance.sum() == pytest.approx(expected, abs=2e-6)


@pytest.mark.slow
def test_a_mismatched_pair_of_different_planes():
    """Three cells of Si(001) on two of Ge(110), tighter than in the test of the whole flow."""
    interface = build_interface(structure("Si", TERSOFF), structure("Ge", TERSOFF), film_miller=(1, 1, 0))
    assert interface.match.cells == (3, 2)
    settings = ConstructionSettings(fmax=1e-4, mismatch_tolerance=1e-3)
    built = construct_junction(interface, calculator(TERSOFF), settings)
    assert max(built.assembly.mismatch) < 1e-3
    # it took more than one length, and they fall off with it
    assert built.history[0][2] > 3 * built.history[-1][2]
    assert built.history[0][0] < built.history[-1][0]
    junction = built.assembly.junction
    assert junction.left.n_atoms == 3 * len(interface.substrate)
    assert junction.right.n_atoms == 2 * 2 * len(interface.film)
    assert junction.sum_rule_error() < 1e-10
    spectrum = solved(junction, (2, 2), 12)
    assert spectrum.checks.conservation_over_bound < 1
    assert spectrum.checks.reciprocity_over_bound < 1
    assert spectrum.checks.excess < 1e-9
    # broken bonds conduct less than a coherent interface does
    assert 100 < spectrum.conductance(300)[0] < solved(construction("Si", "Ge").assembly.junction).conductance(300)[0]


@pytest.mark.slow
def test_nickel_on_copper_by_finite_differences():
    interface = build_interface(structure("Ni", EMT), structure("Cu", EMT), film_miller=(1, 1, 0))
    settings = ConstructionSettings(cutoff=4.0, fmax=1e-5, mismatch_tolerance=1e-3)
    built = construct_junction(interface, calculator(EMT), settings)
    assert max(built.assembly.mismatch) < 1e-3
    spectrum = solved(built.assembly.junction, (2, 2), 20)
    assert spectrum.checks.conservation_over_bound < 1
    assert spectrum.checks.excess < 1e-9


def test_a_longer_junction_starts_from_the_relaxed_one():
    built = construction("Si", "Ge")
    relaxed = built.relaxations["junction"].atoms
    n = (built.units[0] + 2, built.units[1] + 4)
    longer, fresh = lengthened(relaxed, built.interface, n), built.interface.junction(*n)
    assert len(longer) == len(fresh)
    for name in ("side", "unit", "site"):
        np.testing.assert_array_equal(longer.arrays[name], fresh.arrays[name])
    for atoms in (longer, fresh):
        atoms.calc = calculator(TERSOFF)
    assert np.abs(longer.get_forces()).max() < 1e-5
    assert np.abs(longer.get_stress()[2:5]).max() < 1e-6
    assert np.abs(fresh.get_forces()).max() > 1e-2


def test_a_junction_begun_with_a_relaxed_one_is_the_same():
    built = construction("Si", "Ge")
    settings = ConstructionSettings(extra_layers=1)
    again = construct_junction(
        build_interface(structure("Si", TERSOFF), structure("Ge", TERSOFF), max_strain=0.06),
        calculator(TERSOFF),
        settings,
        start=built.relaxations["junction"].atoms,
    )
    fresh = construction("Si", "Ge", extra_layers=1)
    assert again.units == fresh.units > built.units
    assert again.relaxations["junction"].steps < fresh.relaxations["junction"].steps
    one, two = (b.assembly.junction.device for b in (again, fresh))
    np.testing.assert_allclose(one.positions - one.positions[0], two.positions - two.positions[0], atol=1e-6)


def test_the_basal_plane_of_a_hexagonal_crystal_transmits_all_its_modes():
    """Wurtzite SiC along (0001): four atoms a layer, complex blocks, no interface."""
    wurtzite = relax(bulk("SiC", "wurtzite", a=3.08, c=5.05), calculator("tersoff-si-c"), "full", fmax=1e-6).atoms
    crystal = AseAtomsAdaptor.get_structure(wurtzite)
    basal = {"substrate_miller": (0, 0, 0, 1), "film_miller": (0, 0, 0, 1)}
    built = construct_junction(
        build_interface(crystal, crystal, **basal), calculator("tersoff-si-c"), ConstructionSettings(fmax=1e-6)
    )
    junction = built.assembly.junction
    assert (junction.left.n_atoms, max(built.assembly.mismatch) < 1e-6) == (4, True)
    for method in ("mode_matching", "green_function"):
        spectrum = solve_transmission(junction, (3, 3), 20, method)
        assert spectrum.modes_left.max() >= 3
        np.testing.assert_allclose(spectrum.transmission, spectrum.modes_left, atol=1e-9)


# -- starts that are too symmetric


def al_on_cu():
    """Four cells of Al(001) on five of Cu(001), turned by 27 degrees: with no shift, four-fold axes hold the film in place."""
    return build_interface(structure("Al", EMT), structure("Cu", EMT), max_area=100.0)


def relaxed_energy(n_units, settings):
    interface = al_on_cu()
    units = [relax(unit, calculator(EMT), "normal", fmax=1e-5).atoms for unit in (interface.substrate, interface.film)]
    interface = interface.with_units(*units)
    start = displaced(interface.junction(*n_units), interface, settings)
    return relax(start, calculator(EMT), "normal", fmax=1e-3)


def test_a_mismatched_interface_leaves_its_symmetric_start():
    """Without displacement the forces vanish at a saddle point a quarter of an eV above the minimum."""
    assert al_on_cu().match.cells == (4, 5)
    symmetric = relaxed_energy((5, 5), ConstructionSettings(start_displacement=0.0))
    free = relaxed_energy((5, 5), ConstructionSettings())
    assert free.energy < symmetric.energy - 0.1
    assert free.steps < 100


def test_displacements_are_alike_for_every_length():
    interface = al_on_cu()
    moves = []
    for n in ((3, 4), (6, 5)):
        plain = interface.junction(*n)
        moved = displaced(plain, interface, ConstructionSettings())
        moves.append((moved.positions - plain.positions)[np.abs(moved.positions - plain.positions).max(axis=1) > 0])
    np.testing.assert_allclose(moves[0], moves[1], atol=1e-12)
    assert len(moves[0]) == 2 * sum(interface.atoms_per_unit)
    assert 0.03 < moves[0].std() < 0.07
    # the lattice goes on across a coherent interface
    coherent = build_interface(structure("Si", TERSOFF), structure("Ge", TERSOFF), supercell=2)
    plain = coherent.junction(3, 3)
    np.testing.assert_array_equal(displaced(plain, coherent, ConstructionSettings()).positions, plain.positions)


@pytest.mark.parametrize("size", [-0.1, np.nan, np.inf])
def test_displacements_that_are_none(size):
    with pytest.raises(ValueError, match="start_displacement must be a length in Angstrom"):
        ConstructionSettings(start_displacement=size)


def test_too_many_atoms_are_counted_before_the_run():
    interface = build_interface(structure("Si", SW), structure("Si", SW), supercell=8)
    stages = []
    with pytest.raises(
        JunctionError,
        match=r"would hold 1792 atoms \(7 substrate units of 128 and 7 film units of 128 atoms in 943\.\d A\^2\), more than "
        r"max_atoms = 1200: choose a smaller common cell",
    ):
        construct_junction(interface, calculator(SW), ConstructionSettings(max_atoms=1200), report=stages.append)
    assert not any("junction" in stage for stage in stages)


def test_a_tolerance_out_of_reach_says_by_how_much_it_fails():
    interface = build_interface(structure("Si", TERSOFF), structure("Ge", TERSOFF))
    settings = ConstructionSettings(mismatch_tolerance=1e-13, max_lengthenings=1, fmax=1e-2, cutoff=2.6)
    with pytest.raises(
        JunctionError,
        match=r"differ from the leads by \d\.\d\de-\d\d \(left\) and \d\.\d\de-\d\d \(right\) eV/A\^2 after 2 lengths, 1e-13 "
        r"allowed \(5 \+ 5 units: \d\.\d\de-\d\d, \d\.\d\de-\d\d; 7 \+ 7 units: .*You can tighten fmax.*max_lengthenings",
    ):
        construct_junction(interface, calculator(TERSOFF), settings)


def test_noise_too_large_for_the_comparison_is_named():
    interface = build_interface(structure("Si", TERSOFF), structure("Ge", TERSOFF))
    noisy = ImpreciseCalculator(calculator(TERSOFF), decimals=7)
    settings = ConstructionSettings(fmax=1e-2, max_lengthenings=0, cutoff=2.6, mismatch_tolerance=1e-7)
    with pytest.raises(JunctionError, match=r"find less noisy forces \(finite differences change by \d\.\d\de-0[56]"):
        construct_junction(interface, noisy, settings)


def test_copper_nickel_with_a_cutoff():
    """Effective medium theory truncated at the second neighbours: a rough but valid junction of two metals."""
    built = construction("Cu", "Ni", EMT, cutoff=4.0)
    assert built.hessian_method == "finite_differences"
    assert max(built.assembly.mismatch) < 1e-5
    assert built.neglected > 1e-3
    assert np.linalg.norm(built.assembly.junction.device.vectors, axis=1).max() < 4.01
    assert built.assembly.junction.sum_rule_error() < 1e-10
    spectrum = solved(built.assembly.junction, (6, 6), 40)
    assert spectrum.checks.conservation_over_bound < 1
    # 1034 with the whole range, see below
    assert spectrum.conductance(300)[0] == pytest.approx(992, rel=2e-3)


@pytest.mark.slow
def test_copper_nickel_with_the_whole_range():
    built = construction("Cu", "Ni", EMT)
    assert max(built.assembly.mismatch) < 1e-5
    assert built.neglected < 1e-5
    spectrum = solved(built.assembly.junction, (6, 6), 40)
    assert spectrum.conductance(300)[0] == pytest.approx(1034, rel=2e-3)


def test_a_mismatch_that_no_length_can_cure_ends_the_search():
    """Here it is round-off."""
    interface = build_interface(structure("Si", SW), structure("Si", SW))
    settings = ConstructionSettings(mismatch_tolerance=1e-18, max_lengthenings=20, cutoff=2.6)
    with pytest.raises(
        JunctionError, match=r"after 3 lengths, 1e-18 allowed.*do not come closer any more.*a larger cutoff"
    ):
        construct_junction(interface, calculator(SW), settings)


# -- what cannot be built


def bcc(symbol: str, a: float) -> Structure:
    return Structure(Lattice.cubic(a), [symbol] * 2, [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_an_unstable_crystal_is_reported_with_its_wave_vector():
    """Copper is not stable as a body-centred crystal."""
    interface = build_interface(bcc("Cu", 2.87), bcc("Cu", 2.87))
    with pytest.raises(
        UnstableLeadError,
        match=r"the substrate \(Cu\) is unstable .* frequency -\d\.\d+ THz .* at q = \(0\.5, 0\.5, 0\) of",
    ):
        construct_junction(interface, calculator(EMT), ConstructionSettings(cutoff=4.0))


def test_an_interface_at_a_saddle_point_is_refused():
    """Half of silicon shifted until its atoms face each other: symmetry holds it there, and nothing else."""
    interface = build_interface(structure("Si", SW), structure("Si", SW), shift=(0.5, 0.0))
    with pytest.raises(
        JunctionError,
        match=r"not at a minimum of the energy: frequency -\d.*saddle point.*relax from a start_displacement .*another shift",
    ):
        construct_junction(interface, calculator(SW), ConstructionSettings(fmax=1e-5))


def test_a_displaced_start_leaves_the_saddle_point():
    """The same half of silicon slides back: what comes out is the crystal, through which everything passes."""
    interface = build_interface(structure("Si", SW), structure("Si", SW), shift=(0.5, 0.0))
    built = construct_junction(interface, calculator(SW), ConstructionSettings(start_displacement=0.05))
    spectrum = solved(built.assembly.junction, (2, 2), 12)
    np.testing.assert_allclose(spectrum.transmission, spectrum.modes_left, atol=1e-5)


def test_a_relaxation_that_does_not_converge():
    interface = build_interface(structure("Si", TERSOFF), structure("Ge", TERSOFF))
    with pytest.raises(RelaxationError, match="did not converge: largest force"):
        construct_junction(interface, calculator(TERSOFF), ConstructionSettings(max_relaxation_steps=2))


@pytest.mark.parametrize(
    ("max_atoms", "error", "message"),
    [
        (50, ForceConstantsError, "beyond the largest supercell allowed.*max_atoms is 50"),
        (130, JunctionError, "need a supercell of 252 atoms.*more than max_atoms = 130: raise it, or give a cutoff"),
    ],
)
def test_supercells_too_large(max_atoms, error, message):
    interface = build_interface(structure("Si", SW), structure("Si", SW))
    with pytest.raises(error, match=message):
        construct_junction(interface, calculator(SW), ConstructionSettings(max_atoms=max_atoms))


def test_stages_are_reported_and_progress_ends():
    stages, steps = [], []
    settings = ConstructionSettings(hessian="finite_differences", step=0.01, cutoff=2.6)
    interface = build_interface(structure("Si", SW), structure("Si", SW))
    construct_junction(
        interface,
        calculator(SW),
        dataclasses.replace(settings, mismatch_tolerance=1.0),
        report=stages.append,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert [s.split(" of ")[0] for s in stages if "force constants" in s] == ["force constants"] * 3
    assert steps[-1][0] == steps[-1][1]
    assert all(done <= total for done, total in steps)

"""Rows of the Hessian: analytic and by differences, and when differences are not to be trusted."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms

from thermal_flows.lattice import ForceConstantsError
from thermal_flows.lattice.hessian import (
    NOISE,
    SETTLED,
    STEPS,
    expected_calls,
    force_noise,
    has_analytic_hessian,
    hessian_rows,
)

from .systems import EMT, SW, TERSOFF, ImpreciseCalculator, calculator


def rattled(symbols: str, a: float) -> Atoms:
    """Eight atoms off their sites: no symmetry, forces not zero."""
    atoms = bulk("Si", cubic=True, a=a)
    atoms.symbols = symbols
    atoms.rattle(0.08, seed=3)
    return atoms


CASES = [(SW, rattled("Si8", 5.43)), (TERSOFF, rattled("Si5Ge3", 5.55)), (TERSOFF, rattled("Si8", 5.43))]


@pytest.mark.parametrize(("potential", "atoms"), CASES, ids=["sw", "tersoff SiGe", "tersoff Si"])
def test_differences_agree_with_the_analytic_hessian(potential, atoms):
    rows = [6, 1, 3]
    exact = hessian_rows(atoms, calculator(potential), rows)
    numeric = hessian_rows(atoms, calculator(potential), rows, method="finite_differences")
    assert (exact.method, exact.step) == ("analytic", None)
    assert (numeric.method, list(numeric.rows)) == ("finite_differences", rows)
    scale = np.abs(exact.values).max()
    error = np.abs(numeric.values - exact.values).max()
    assert error < 1e-6 * scale
    # the check is an upper bound: the error left is a sixteenth of the change
    assert error < numeric.step_error + 1e-8


@pytest.mark.parametrize(("potential", "atoms"), CASES, ids=["sw", "tersoff SiGe", "tersoff Si"])
def test_the_error_falls_with_the_fourth_power_of_the_step(potential, atoms):
    exact = hessian_rows(atoms, calculator(potential), [2]).values
    coarse, fine = (
        np.abs(
            hessian_rows(atoms, calculator(potential), [2], method="finite_differences", step=h).values - exact
        ).max()
        for h in (0.02, 0.01)
    )
    assert 11 < coarse / fine < 22


def test_hessian_is_symmetric_and_blind_to_translation():
    _, atoms = CASES[1]
    values = hessian_rows(atoms, calculator(TERSOFF), range(8)).values
    np.testing.assert_allclose(values, values.transpose(1, 0, 3, 2), atol=1e-10)
    np.testing.assert_allclose(values.sum(axis=1), 0.0, atol=1e-10)


def test_a_smooth_potential_keeps_the_large_step():
    found = hessian_rows(bulk("Si", cubic=True), calculator(SW), [0], method="finite_differences")
    assert found.step == STEPS[1]
    assert found.step_error < SETTLED * np.abs(found.values).max()


def test_a_steep_cut_off_takes_a_smaller_step():
    # strained by 5 % the third neighbours of copper sit where EMT's cut-off falls by 24 per Angstrom
    atoms = bulk("Cu", cubic=True, a=3.61 * 1.05).repeat(2)
    found = hessian_rows(atoms, calculator(EMT), [0])
    assert found.step < STEPS[1]
    reference = hessian_rows(atoms, calculator(EMT), [0], step=0.001).values
    assert np.abs(found.values - reference).max() < found.step_error
    coarse = hessian_rows(atoms, calculator(EMT), [0], step=STEPS[0]).values
    assert np.abs(coarse - reference).max() > 20 * np.abs(found.values - reference).max()


IMPRECISE = {"single precision": {"single": True}, "four decimals": {"decimals": 4}, "six decimals": {"decimals": 6}}


@pytest.mark.parametrize("options", IMPRECISE.values(), ids=IMPRECISE)
@pytest.mark.parametrize("atoms", [bulk("Si", cubic=True), rattled("Si8", 5.43)], ids=["perfect", "rattled"])
def test_single_precision_and_rounded_forces_are_refused_with_the_cure(options, atoms):
    says = r"float32.*whose noise breaks the sum rule.*errors of \d\.\de-0\d eV/A\^2.*Run it in float64.*default_dtype='float64'"
    with pytest.raises(ForceConstantsError, match=says):
        hessian_rows(atoms, ImpreciseCalculator(calculator(SW), **options), [0, 3])
    with pytest.raises(ForceConstantsError, match=says):  # a step by hand does not help
        hessian_rows(atoms, ImpreciseCalculator(calculator(SW), **options), [0], step=0.01)


def test_single_precision_is_told_from_rounding():
    atoms = rattled("Si8", 5.43)
    assert force_noise(atoms, ImpreciseCalculator(calculator(SW), single=True), 2).single_precision
    assert not force_noise(atoms, ImpreciseCalculator(calculator(SW), decimals=6), 2).single_precision
    assert not force_noise(atoms, calculator(SW), 2).single_precision


@pytest.mark.parametrize(("potential", "symbols"), [(SW, "Si8"), (TERSOFF, "Si5Ge3"), (EMT, "Cu8")])
def test_noise_of_double_precision_is_far_from_the_limit(potential, symbols):
    measured = force_noise(rattled(symbols, 5.43), calculator(potential), 1)
    assert measured.of_force_constants(0.01) < 0.01 * NOISE * measured.stiffness


@pytest.mark.parametrize("options", [{"single": True}, {"decimals": 6}], ids=["single precision", "six decimals"])
def test_noise_that_is_accepted_is_owned_up_to(options):
    atoms = bulk("Si", cubic=True).repeat(2)
    exact = hessian_rows(atoms, calculator(SW), [0, 37]).values
    found = hessian_rows(atoms, ImpreciseCalculator(calculator(SW), **options), [0, 37], noise=1e-3)
    # noise grows as the step shrinks: the check does not run after it
    assert found.step == STEPS[1]
    error = np.abs(found.values - exact).max()
    assert error < 3 * found.step_error
    assert error < 3 * found.noise
    assert found.noise > 1e-5


def test_forces_that_do_not_settle_are_refused_with_numbers():
    printed = ImpreciseCalculator(calculator(SW), decimals=4)
    with pytest.raises(ForceConstantsError, match=r"0\.02 -> 0\.01 A: \d\.\d\de-03.*0\.005 -> 0\.0025 A: \d\.\d\de-02"):
        hessian_rows(bulk("Si", cubic=True), printed, [0, 3], noise=1e-2)


def test_the_user_may_settle_for_less():
    printed = ImpreciseCalculator(calculator(SW), decimals=4)
    found = hessian_rows(bulk("Si", cubic=True), printed, [0], tolerance=1e-2, noise=1e-2)
    exact = hessian_rows(bulk("Si", cubic=True), calculator(SW), [0]).values
    assert 1e-4 < np.abs(found.values - exact).max() < 3 * found.step_error


class PinnedToTheOrigin(Calculator):
    """A potential whose energy depends on where the crystal is: forces are smooth, but break the sum rule."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - ASE's own convention

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)) -> None:
        super().calculate(atoms, properties, system_changes)
        exact = calculator(SW)
        self.results = {
            "energy": exact.get_potential_energy(atoms) + 5e-4 * (atoms.positions**2).sum(),
            "forces": exact.get_forces(atoms) - 1e-3 * atoms.positions,
        }


def test_forces_that_do_not_add_up_are_refused():
    with pytest.raises(ForceConstantsError, match=r"break the acoustic sum rule by 1\.0e-03 .*do not add up to zero"):
        hessian_rows(bulk("Si", cubic=True), PinnedToTheOrigin(), [0])


class CountedBatches(Calculator):
    """Another calculator, that takes many images at once."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - ASE's own convention

    def __init__(self, exact: Calculator) -> None:
        super().__init__()
        self.exact, self.batches = exact, []

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": self.exact.get_potential_energy(atoms), "forces": self.exact.get_forces(atoms)}

    def forces_of(self, images):
        self.batches.append(len(images))
        return np.array([self.exact.get_forces(image) for image in images])


def test_all_displacements_of_an_atom_go_into_one_call():
    batched, atoms, seen = CountedBatches(calculator(EMT)), bulk("Cu", cubic=True), []
    found = hessian_rows(atoms, batched, [0, 2], step=0.01, progress=lambda done, total: seen.append((done, total)))
    assert batched.batches == [12, 12]
    assert seen == [(k, 24) for k in range(1, 25)]
    np.testing.assert_array_equal(found.values, hessian_rows(atoms, calculator(EMT), [0, 2], step=0.01).values)


def test_a_step_by_hand_is_taken_as_it_is():
    found = hessian_rows(bulk("Cu", cubic=True), calculator(EMT), [1], step=0.004)
    assert (found.step, found.step_error) == (0.004, None)


def test_progress_counts_every_force_call():
    seen = []
    atoms = bulk("Cu", cubic=True)
    hessian_rows(atoms, calculator(EMT), [0, 2], step=0.01, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 24) for k in range(1, 25)]


def test_atoms_and_their_constraints_are_left_alone():
    atoms = bulk("Si", cubic=True)
    free = hessian_rows(atoms, calculator(SW), [0], step=0.01, method="finite_differences").values
    atoms.set_constraint(FixAtoms([0, 1, 2]))
    before = atoms.positions.copy()
    fixed = hessian_rows(atoms, calculator(SW), [0], step=0.01, method="finite_differences").values
    np.testing.assert_array_equal(fixed, free)
    np.testing.assert_array_equal(atoms.positions, before)
    assert len(atoms.constraints) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": []}, "at least one"),
        ({"rows": [8]}, "indices of the 8 atoms"),
        ({"rows": [-1]}, "indices of the 8 atoms"),
        ({"rows": [0], "method": "autograd"}, "'autograd'"),
        ({"rows": [0], "step": -0.01, "method": "finite_differences"}, "step must be positive"),
        ({"rows": [0], "step": 0.0, "method": "finite_differences"}, "step must be positive"),
    ],
)
def test_unusable_arguments(options, message):
    with pytest.raises(ForceConstantsError, match=message):
        hessian_rows(bulk("Si", cubic=True), calculator(SW), **options)


def test_an_analytic_hessian_that_is_not_there():
    assert not has_analytic_hessian(calculator(EMT))
    with pytest.raises(ForceConstantsError, match="no analytic Hessian; use method='finite_differences'"):
        hessian_rows(bulk("Cu", cubic=True), calculator(EMT), [0], method="analytic")


def test_the_expected_cost_is_what_is_called():
    atoms, rows = bulk("Cu", cubic=True), np.array([0, 2])
    counted = CountedBatches(calculator(EMT))
    hessian_rows(atoms, counted, rows, step=0.01)
    assert expected_calls(atoms, counted, rows, step=0.01) == sum(counted.batches) == 24
    # the step check comes on top: at least three steps, for every element
    assert expected_calls(atoms, counted, rows) == 24 + 36
    assert expected_calls(atoms, calculator(SW), rows) is None
    assert expected_calls(atoms, calculator(SW), rows, "finite_differences", 0.01) == 24

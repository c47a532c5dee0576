"""Forces of many images in one call, and rows of the Hessian from parts of the graph."""

import numpy as np
import pytest
from ase.build import bulk

from mace_training import labelled_cells, untrained
from thermal_flows.lattice import ForceConstantsError
from thermal_flows.lattice.hessian import hessian_rows
from thermal_flows.potentials import BatchedForces, RowHessian, resolve_potential
from thermal_flows.potentials.mace_calculator import BatchedMACE


def model(layers: int, cutoff: float = 3.6) -> BatchedMACE:
    return BatchedMACE("untrained", untrained(layers=layers, cutoff=cutoff), n_threads=1)


def alloy(repeats, seed=0):
    """A rattled Si-Ge cell without symmetry."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Si", "diamond", 5.5, cubic=True).repeat(repeats)
    atoms.numbers[rng.random(len(atoms)) < 0.5] = 32
    atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
    return atoms


@pytest.mark.parametrize("layers", [1, 2])
def test_batches_of_any_size_give_the_forces_of_single_calls(layers):
    calculator = model(layers)
    assert isinstance(calculator, BatchedForces)
    atoms = alloy((1, 1, 2))
    images = [atoms.copy() for _ in range(7)]
    for k, image in enumerate(images):
        image.positions[k, k % 3] += 0.05
    single = np.array([calculator.get_forces(image) for image in images])
    for size in (1e3, 1e6, 1e9):
        calculator.batch_bytes = size
        np.testing.assert_allclose(calculator.forces_of(images), single, atol=1e-12)


@pytest.mark.parametrize(
    ("layers", "repeats"),
    [(1, (1, 1, 1)), (1, (3, 2, 1)), (2, (1, 1, 1)), (2, (1, 1, 4))],
    ids=["one layer, whole graph", "one layer, part", "two layers, whole graph", "two layers, part"],
)
def test_rows_from_parts_are_the_rows_of_the_whole_hessian(layers, repeats):
    calculator = model(layers)
    assert isinstance(calculator, RowHessian)
    atoms = alloy(repeats, seed=1)
    rows = np.array([len(atoms) - 1, 0, 3, 0])
    whole = calculator.get_hessian(atoms).reshape(len(atoms), 3, len(atoms), 3).transpose(0, 2, 1, 3)
    found = calculator.hessian_of(atoms, rows)
    np.testing.assert_allclose(found, whole[rows], atol=1e-11)
    calculator.batch_bytes = 1.0
    np.testing.assert_allclose(calculator.hessian_of(atoms, rows), whole[rows], atol=1e-11)


@pytest.mark.parametrize("layers", [1, 2])
def test_rows_agree_with_finite_differences(layers):
    calculator, atoms = model(layers), alloy((1, 1, 1), seed=2)
    rows = [2, 6]
    exact = hessian_rows(atoms, calculator, rows, method="analytic")
    numeric = hessian_rows(atoms, calculator, rows, method="finite_differences")
    scale = np.abs(exact.values).max()
    assert np.abs(exact.values - numeric.values).max() < 1e-6 * scale
    assert np.abs(exact.values.sum(axis=1)).max() < 1e-12 * scale
    assert numeric.noise < 1e-8 * scale


def test_a_trained_file_agrees_with_finite_differences_and_with_its_teacher(mace_file):
    calculator = resolve_potential(mace_file).calculator()
    cells = labelled_cells(12, seed=99)
    errors = np.concatenate([calculator.get_forces(a) - a.arrays["REF_forces"] for a in cells])
    labels = np.concatenate([a.arrays["REF_forces"] for a in cells])
    assert np.sqrt((errors**2).mean()) < 0.15 * np.sqrt((labels**2).mean())
    atoms = bulk("Si", "diamond", 5.43, cubic=True).repeat((2, 2, 1))
    atoms.numbers[16:] = 32
    exact, numeric = (hessian_rows(atoms, calculator, [3, 20], method=m) for m in ("auto", "finite_differences"))
    assert (exact.method, numeric.method) == ("analytic", "finite_differences")
    assert np.abs(exact.values - numeric.values).max() < 1e-6 * np.abs(exact.values).max()
    teacher = hessian_rows(atoms, resolve_potential("tersoff-si-ge").calculator(), [3, 20])
    assert np.abs(exact.values - teacher.values).max() < 0.2 * np.abs(teacher.values).max()


def test_progress_of_rows():
    calculator, seen = model(1), []
    calculator.batch_bytes = 1.0
    calculator.hessian_of(alloy((1, 1, 1)), np.arange(3), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_costs_follow_the_part_of_the_graph_and_choose_the_route():
    calculator = model(1)
    small, large = alloy((1, 1, 1)), alloy((3, 3, 3))
    rows = np.array([0])
    assert calculator.hessian_cost(large, rows) < 0.2 * calculator.hessian_cost(small, rows)
    assert calculator.hessian_cost(small, np.arange(8)) == pytest.approx(
        8 * calculator.hessian_cost(small, rows), rel=0.2
    )
    assert hessian_rows(small, calculator, [0]).method == "analytic"
    # a model whose row would not fit into memory leaves it to differences
    calculator._message = 10**9
    found = hessian_rows(small, calculator, [0])
    assert (found.method, "inf force calls" in found.reason) == ("finite_differences", True)


def test_stress_is_the_derivative_of_the_energy(mace_file):
    calculator = resolve_potential(mace_file).calculator()
    atoms = labelled_cells(1, seed=7)[0]
    stress = calculator.get_stress(atoms)
    cell = atoms.cell.array.copy()
    energies = []
    for sign in (-1, 1):
        strained = atoms.copy()
        strained.set_cell(cell @ (np.eye(3) + sign * 1e-5 * np.diag([0, 0, 1.0])), scale_atoms=True)
        energies.append(calculator.get_potential_energy(strained))
    assert stress[2] == pytest.approx((energies[1] - energies[0]) / (2e-5 * atoms.get_volume()), abs=1e-8)


def test_mace_in_single_precision_is_refused():
    # as a user's own factory may return it
    from mace.calculators import MACECalculator

    single = MACECalculator(models=untrained().float(), default_dtype="float32", device="cpu")
    with pytest.raises(
        ForceConstantsError, match=r"a potential in float32 whose noise breaks the sum rule.*Run it in float64"
    ):
        hessian_rows(alloy((1, 1, 1)), single, [0])
    assert hessian_rows(alloy((1, 1, 1)), model(1), [0], method="finite_differences").noise < 1e-8

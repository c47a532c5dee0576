"""Force fields by atomate2's names; CHGNet, which comes with its weights, for real."""

import importlib.util
import json

import numpy as np
import pytest
from ase.build import bulk

from thermal_flows.lattice import ForceConstantsError
from thermal_flows.lattice.hessian import force_noise, hessian_rows
from thermal_flows.potentials import FORCE_FIELDS, PotentialError, RowHessian, resolve_potential
from thermal_flows.potentials.elements import CHGNET_ELEMENTS
from thermal_flows.potentials.forcefields import force_field_names

needs_chgnet = pytest.mark.skipif(
    importlib.util.find_spec("chgnet") is None, reason="the extra chgnet is not installed"
)


def alloy():
    atoms = bulk("Si", "diamond", 5.45, cubic=True)
    atoms.numbers[3:5] = 32
    atoms.rattle(0.05, seed=1)
    return atoms


def test_every_name_of_atomate2_is_known():
    from atomate2.forcefields import MLFF

    assert set(FORCE_FIELDS) == {str(member.value) for member in MLFF} - {"Forcefield"}
    names = force_field_names()
    assert names["MACE_MP_0"] == names["MLFF.MACE_MP_0"] == names["MACE-MP-0"] == "MACE-MP-0"


@pytest.mark.parametrize("name", FORCE_FIELDS)
def test_a_name_resolves_or_says_what_is_missing(name):
    entry = FORCE_FIELDS[name]
    if entry.needs_file:
        with pytest.raises(
            PotentialError, match=rf"takes a file .*pip install {entry.distribution}.*'module:callable'"
        ):
            resolve_potential(name)
    elif importlib.util.find_spec(entry.module) is None:
        with pytest.raises(PotentialError, match=rf"needs the package {entry.distribution}: pip install "):
            resolve_potential(name)
    else:
        potential = resolve_potential(f"MLFF.{name}" if name == "CHGNet" else name)
        assert (potential.name, potential.spec, potential.kind) == (name, name, "force_field")
        assert potential.may_download is entry.may_download
        record = json.loads(json.dumps(potential.provenance()))
        assert record["packages"][entry.distribution]
        assert "makes most crystals too soft" in record["warnings"][0]


def test_a_missing_package_is_reported_with_the_command(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "thermal_flows.potentials.forcefields.find_spec", lambda name: None if name == "chgnet" else find(name)
    )
    with pytest.raises(PotentialError, match=r'needs the package chgnet: pip install "thermal-flows\[chgnet\]"'):
        resolve_potential("CHGNet")


@pytest.mark.parametrize(
    ("spec", "near"), [("chgnet", "CHGNet"), ("MACE-MP0", "MACE-MP-0"), ("mace_mpa_0", "MACE-MPA-0")]
)
def test_misspelt_names_get_a_hint(spec, near):
    with pytest.raises(PotentialError, match=rf"unknown potential '{spec}'\. Did you mean '{near}'"):
        resolve_potential(spec)


@pytest.fixture(scope="module")
def chgnet():
    return resolve_potential("CHGNet").calculator()


@needs_chgnet
def test_chgnet_says_what_it_is():
    potential = resolve_potential("CHGNet")
    assert (potential.dtype, potential.may_download, potential.smooth) == ("float64", False, False)
    assert len(potential.sha256) == 64
    assert potential.provenance()["sha256_of"] == "file of the weights in the package"
    assert (len(potential.elements), "Po" in potential.elements) == (89, False)
    with pytest.raises(PotentialError, match="does not describe Po"):
        potential.check_elements(bulk("Po", "sc", 3.35))
    with pytest.raises(PotentialError, match="does not describe Po"):
        potential.calculator().get_forces(bulk("Po", "sc", 3.35))


@needs_chgnet
def test_untrained_elements_of_chgnet_are_left_out():
    from chgnet.model import CHGNet

    reference = CHGNet.load(verbose=False, use_device="cpu").composition_model.fc.weight.detach().numpy().ravel()
    left_out = [z for z in range(1, 95) if _symbol(z) not in CHGNET_ELEMENTS]
    assert left_out == [84, 85, 86, 87, 88]
    assert np.abs(reference[np.array(left_out) - 1]).max() < 0.5  # never fitted: no cohesive energy


def _symbol(z: int) -> str:
    from ase.data import chemical_symbols

    return chemical_symbols[z]


@needs_chgnet
def test_chgnet_in_double_precision_is_chgnet(chgnet):
    from chgnet.model.dynamics import CHGNetCalculator

    single = CHGNetCalculator(use_device="cpu")
    atoms = alloy()
    assert chgnet.get_potential_energy(atoms) == pytest.approx(single.get_potential_energy(atoms), abs=1e-4)
    np.testing.assert_allclose(chgnet.get_forces(atoms), single.get_forces(atoms), atol=2e-5)
    full = single.get_stress(atoms)
    np.testing.assert_allclose(chgnet.get_stress(atoms), full[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], atol=1e-6)
    # chgnet's own calculator is noisy and refused; ours is smooth
    assert force_noise(atoms, single, 0).single_precision
    assert force_noise(atoms, chgnet, 0).noise < 1e-3 * force_noise(atoms, single, 0).noise
    with pytest.raises(ForceConstantsError, match="looks like a potential in float32 whose noise breaks the sum rule"):
        hessian_rows(atoms, single, [0], step=0.05)


@needs_chgnet
def test_forces_and_stress_of_chgnet_are_derivatives(chgnet):
    atoms = alloy()
    forces, stress = chgnet.get_forces(atoms), chgnet.get_stress(atoms)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-12)
    energies = []
    for k in (-2, -1, 1, 2):
        moved = atoms.copy()
        moved.positions[3, 1] += k * 1e-4
        energies.append(chgnet.get_potential_energy(moved))
    assert -np.dot([1, -8, 8, -1], energies) / 12e-4 == pytest.approx(forces[3, 1], abs=1e-6)
    energies = []
    for k in (-1, 1):
        strain = np.eye(3)
        strain[0, 1] += k * 1e-5
        sheared = atoms.copy()
        sheared.set_cell(atoms.cell @ strain, scale_atoms=True)
        energies.append(chgnet.get_potential_energy(sheared))
    assert stress[5] == pytest.approx((energies[1] - energies[0]) / (2e-5 * atoms.get_volume()), abs=1e-6)


@needs_chgnet
def test_many_images_and_second_derivatives_of_chgnet(chgnet):
    assert isinstance(chgnet, RowHessian)
    atoms = alloy()
    images = [atoms.copy() for _ in range(3)]
    for k, image in enumerate(images):
        image.positions[k, 0] += 0.05
    single = np.array([chgnet.get_forces(image) for image in images])
    np.testing.assert_allclose(chgnet.forces_of(images), single, atol=1e-10)
    exact = hessian_rows(atoms, chgnet, [0, 4])
    assert exact.method == "analytic"
    # ripples of the energy: differences need steps of a few 1e-5 Angstrom
    steps = [
        np.abs(hessian_rows(atoms, chgnet, [0, 4], method="finite_differences", step=h).values - exact.values).max()
        for h in (2e-4, 1e-4, 5e-5)
    ]
    assert steps[2] < 1e-6 * np.abs(exact.values).max()
    assert steps[0] > 5 * steps[1] > 25 * steps[2]


@needs_chgnet
def test_ripples_of_chgnet_are_seen_by_the_step_check(chgnet):
    with pytest.raises(ForceConstantsError, match="do not settle when the step is halved"):
        hessian_rows(alloy(), chgnet, [0], method="finite_differences")

"""Identities: the same crystal always has the same one, and different crystals never share it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.core.operations import SymmOp
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from scipy.spatial.transform import Rotation

from thermal_flows.schemas.identity import array_identity, canonical_json, crystal_identity, sha256_of
from thermal_flows.structures import crystal

QUARTZ = Structure.from_spacegroup(
    "P3_221", Lattice.hexagonal(4.9137, 5.4047), ["Si", "O"], [[0.4697, 0, 2 / 3], [0.4135, 0.2669, 0.7858]]
)
CRYSTALS = {
    "Si": crystal("Si"),
    # a quarter of this constant is a whole number of 1e-4 A and a half
    "Si, rounded constant": Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.431), ["Si"], [[0, 0, 0]]),
    "Cu": crystal("Cu"),
    "SiC": crystal("SiC"),
    "GaAs": Structure.from_spacegroup("F-43m", Lattice.cubic(5.6533), ["Ga", "As"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "GaN": Structure.from_spacegroup(
        "P6_3mc", Lattice.hexagonal(3.189, 5.185), ["Ga", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.377]]
    ),
    "rutile": Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.3053, 0.3053, 0]]
    ),
    "quartz": QUARTZ,
    "triclinic": Structure(
        Lattice.from_parameters(3.1, 4.2, 5.3, 81, 97, 106),
        ["Si", "Ge", "Si"],
        [[0.1, 0.2, 0.3], [0.5, 0.6, 0.71], [0.83, 0.14, 0.55]],
    ),
}


def rewritten(structure: Structure, rng: np.random.Generator) -> Structure:
    """The same crystal in another cell, orientation, origin and order."""
    kind = rng.integers(3)
    analyzer = SpacegroupAnalyzer(structure, symprec=1e-3)
    if kind == 0:
        structure = analyzer.get_conventional_standard_structure()
    elif kind == 1:
        structure = analyzer.get_primitive_standard_structure()
    else:
        structure = structure.copy()
    while True:
        change = rng.integers(-1, 2, size=(3, 3))
        if abs(round(np.linalg.det(change))) in (1, 2):
            break
    if np.linalg.det(change) < 0:
        change = -change
    structure.make_supercell(change, to_unit_cell=bool(rng.integers(2)))
    structure.apply_operation(
        SymmOp.from_rotation_and_translation(Rotation.random(random_state=rng.integers(10**6)).as_matrix(), [0, 0, 0])
    )
    structure.translate_sites(range(len(structure)), rng.random(3), to_unit_cell=bool(rng.integers(2)))
    return Structure.from_sites([structure[i] for i in rng.permutation(len(structure))])


@pytest.mark.parametrize("name", CRYSTALS)
@given(st.integers(0, 10_000))
@settings(max_examples=6)
def test_identity_is_that_of_the_crystal_and_not_of_its_cell(name, seed):
    structure = CRYSTALS[name]
    other = rewritten(structure, np.random.default_rng(seed))
    assert crystal_identity(other) == crystal_identity(structure)


def test_identities_differ_between_crystals():
    found = {name: sha256_of(crystal_identity(s)) for name, s in CRYSTALS.items()}
    # 2e-5 A apart, less than identities resolve
    assert found["Si"] == found.pop("Si, rounded constant")
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize("name", CRYSTALS)
def test_identity_is_plain_json(name):
    content = crystal_identity(CRYSTALS[name])
    assert json.loads(json.dumps(content)) == content
    assert len(content["sites"]) == len(CRYSTALS[name].get_primitive_structure())


def test_a_change_of_a_thousandth_angstrom_is_another_crystal():
    silicon = crystal("Si")
    strained = silicon.copy()
    strained.apply_strain(2e-4)
    assert crystal_identity(strained) != crystal_identity(silicon)
    nitride = CRYSTALS["GaN"]
    moved = Structure.from_spacegroup(
        "P6_3mc", nitride.lattice, ["Ga", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.3773]]
    )
    assert crystal_identity(moved) != crystal_identity(nitride)


def test_noise_of_a_file_is_no_other_crystal():
    noisy = CRYSTALS["SiC"].copy()
    noisy.perturb(1e-7)
    assert crystal_identity(noisy) == crystal_identity(CRYSTALS["SiC"])


def test_elements_on_each_others_sites():
    swapped = CRYSTALS["rutile"].copy()
    swapped.replace_species({"Ti": "O", "O": "Ti"})
    assert crystal_identity(swapped) != crystal_identity(CRYSTALS["rutile"])
    # in zincblende and rocksalt the two sublattices are equivalent
    exchanged = CRYSTALS["GaAs"].copy()
    exchanged.replace_species({"Ga": "As", "As": "Ga"})
    assert crystal_identity(exchanged) == crystal_identity(CRYSTALS["GaAs"])


def test_left_and_right_quartz_are_different_crystals():
    mirrored = QUARTZ.copy()
    mirrored.apply_operation(SymmOp.reflection([0, 0, 1]))
    assert crystal_identity(mirrored) != crystal_identity(QUARTZ)
    assert crystal_identity(mirrored)["metric"] == crystal_identity(QUARTZ)["metric"]


def test_labels_and_oxidation_states_do_not_matter():
    decorated = CRYSTALS["GaAs"].copy()
    decorated.add_oxidation_state_by_element({"Ga": 3, "As": -3})
    decorated.add_site_property("magmom", [0.0] * len(decorated))
    assert crystal_identity(decorated) == crystal_identity(CRYSTALS["GaAs"])


def test_canonical_json():
    assert canonical_json({"b": [1.5, None], "a": "x"}) == '{"a":"x","b":[1.5,null]}'
    assert sha256_of({"a": 1, "b": 2}) == sha256_of({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_array_identity():
    arrays = {"phi": np.array([1.0, -2e-9]), "i": np.array([0, 1])}
    assert array_identity(arrays) == array_identity({"i": [0, 1], "phi": [1.0, 3e-9]})
    assert array_identity(arrays) != array_identity({**arrays, "phi": np.array([1.00001, 0.0])})
    assert array_identity(arrays) != array_identity({**arrays, "phi": np.array([[1.0, 0.0]])})
    assert array_identity(arrays) != array_identity({"j": arrays["i"], "phi": arrays["phi"]})

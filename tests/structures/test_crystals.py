import json
import subprocess
import sys

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from thermal_flows.structures import BUILTIN_CRYSTALS, StructureError, conventional_cell, crystal


@pytest.mark.parametrize("name", BUILTIN_CRYSTALS)
def test_builtin_crystals_have_their_space_group_and_lattice_constants(name):
    entry = BUILTIN_CRYSTALS[name]
    structure = crystal(name)
    groups = {"fcc": 225, "bcc": 229, "hcp": 194, "diamond": 227, "zincblende": 216, "rocksalt": 225, "wurtzite": 186}
    assert structure.get_space_group_info()[1] == groups[entry.prototype]
    assert {site.specie.symbol for site in structure} == set(entry.elements)
    conventional = conventional_cell(name)
    assert conventional.lattice.a == pytest.approx(entry.a, abs=1e-9)
    assert conventional.lattice.c == pytest.approx(entry.c or entry.a, abs=1e-9)
    assert entry.source


def test_a_file_in_any_cell_gives_the_same_crystal(tmp_path):
    supercell = crystal("Si")
    supercell.make_supercell([2, 1, 1])
    path = tmp_path / "si.cif"
    supercell.to(filename=str(path))
    read = crystal(path)
    assert len(read) == 2
    assert read.lattice.abc == pytest.approx(crystal("Si").lattice.abc, abs=1e-5)
    assert crystal(str(path)).matches(read)


def test_oxidation_states_and_site_properties_are_dropped():
    structure = crystal("MgO").add_oxidation_state_by_guess()
    structure.add_site_property("magmom", [1.0, 2.0])
    plain = crystal(structure)
    assert plain.site_properties.get("magmom") is None
    assert {str(site.specie) for site in plain} == {"Mg", "O"}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("si", r"did you mean 'Si'.*Built-in names are Si, Ge.*file that exists"),
        ("nowhere/crystal.cif", "unknown crystal"),
        (14, r"not int.*AseAtomsAdaptor"),
    ],
)
def test_unknown_crystals_are_refused_with_what_is_known(spec, says):
    with pytest.raises(StructureError, match=says):
        crystal(spec)


@pytest.mark.parametrize("name", ["broken.cif", "POSCAR_broken", "notes.txt"])
def test_a_file_that_does_not_parse_is_named_with_the_reason(tmp_path, name):
    path = tmp_path / name
    path.write_text("this is no crystal\n")
    with pytest.raises(StructureError, match=rf"{name} is not a structure that pymatgen can read \(\w+"):
        crystal(path)


def test_disordered_structures_are_refused():
    alloy = Structure(Lattice.cubic(5.5), [{"Si": 0.5, "Ge": 0.5}], [[0, 0, 0]])
    with pytest.raises(StructureError, match="partially occupied"):
        crystal(alloy)


def test_zincblende_has_its_cation_at_the_origin_and_wurtzite_its_anion_above():
    zincblende = conventional_cell("SiC")
    carbon = next(site for site in zincblende if site.specie.symbol == "C")
    silicon = next(site for site in zincblende if site.specie.symbol == "Si")
    apart = np.mod(carbon.frac_coords - silicon.frac_coords, 0.5)
    assert apart == pytest.approx([0.25] * 3)
    up = sum(np.mod(carbon.frac_coords - silicon.frac_coords, 1.0) > 0.5)
    assert up % 2 == 0  # (1/4, 1/4, 1/4) and its face-centred images, not (3/4, 3/4, 3/4)


def test_importing_the_room_loads_nothing_heavy():
    code = (
        "import json, sys, thermal_flows.structures;"
        "print(json.dumps([m for m in ('ase', 'pymatgen', 'scipy', 'spglib', 'torch') if m in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []

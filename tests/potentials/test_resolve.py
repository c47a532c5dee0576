import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from thermal_flows.potentials import BUILTIN_POTENTIALS, Potential, PotentialError, resolve_potential
from thermal_flows.structures import crystal

MODULE = """
from ase.calculators.emt import EMT

instance = EMT()
number = 3


def metal():
    return EMT()


def broken():
    raise RuntimeError("no weights here")


def wrong():
    return 3


class Models:
    metal = EMT
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    path = tmp_path / "my_potentials_of_a_test.py"
    path.write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("name", BUILTIN_POTENTIALS)
def test_builtin_potentials_say_what_they_are(name):
    potential = resolve_potential(name)
    assert potential == resolve_potential(potential.spec)
    assert potential is resolve_potential(potential)
    assert potential.name == name
    assert potential.elements
    assert potential.citation
    calculator = potential.calculator()
    assert ("hessian" in calculator.implemented_properties) is potential.analytic_hessian
    assert (potential.kind, potential.dtype, potential.may_download) == ("builtin", "float64", False)
    record = json.loads(json.dumps(potential.provenance()))
    assert record["sha256"] == potential.sha256
    canonical = json.dumps(record["parameters"], sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == potential.sha256
    assert record["packages"]["ase"]
    assert hash(potential) == hash(pickle.loads(pickle.dumps(potential)))


def test_potentials_differ_in_their_hash():
    assert len({resolve_potential(name).sha256 for name in BUILTIN_POTENTIALS}) == len(BUILTIN_POTENTIALS)


def test_elements_of_pymatgen_structures_are_checked_too():
    resolve_potential("tersoff-si-c").check_elements(crystal("SiC"))
    with pytest.raises(PotentialError, match="does not describe C; it knows Ge, Si"):
        resolve_potential("tersoff-si-ge").check_elements(crystal("SiC"))


def test_a_factory_of_a_module(module):
    spec = f"{module.stem}:metal"
    potential = resolve_potential(spec)
    assert (potential.name, potential.spec, potential.elements) == (spec, spec, None)
    assert potential.sha256 == hashlib.sha256(module.read_bytes()).hexdigest()
    assert isinstance(potential.calculator(), EMT)
    assert potential.calculator() is not potential.calculator()
    assert potential.analytic_hessian is False
    potential.check_elements(bulk("U", "fcc", 4.0))
    assert json.loads(json.dumps(potential.provenance()))["sha256_of"] == "source file of the factory's module"


def test_classes_and_attributes_of_classes_are_factories(module):
    assert isinstance(resolve_potential("ase.calculators.emt:EMT").calculator(), EMT)
    assert isinstance(resolve_potential(f"{module.stem}:Models.metal").calculator(), EMT)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("my_potentials_of_a_test:metals", "has no 'metals'; did you mean 'metal'"),
        ("my_potentials_of_a_test:number", "names a int; it must name a function or class"),
        ("my_potentials_of_a_test:instance", "names a EMT; it must name a function or class"),
        ("no_such_module_at_all:model", "no importable module.*sys.path.*pip install -e .*PYTHONPATH"),
        ("thermal_flows.nowhere:model", "no importable module 'thermal_flows.nowhere'"),
        ("tersoff_si_ge", "Did you mean 'tersoff-si-ge'.*Known names: tersoff-si-ge"),
        ("mace-mp-0", "unknown potential 'mace-mp-0'.*Did you mean 'MACE-MP-0'.*sw-si.*my_potentials:model"),
        ("/models/si_ge.model", "there is no file '/models/si_ge.model'"),
        (Path("SiCGe.tersoff"), "there is no file"),
        (EMT(), r"calculator instance \(EMT\) is refused: Flows are stored.*my_potentials:model"),
        (3, "not int"),
    ],
)
def test_what_is_no_potential_is_refused_with_the_cure(module, spec, says):
    with pytest.raises(PotentialError, match=says):
        resolve_potential(spec)


@pytest.mark.parametrize(
    ("name", "says"), [("broken", "RuntimeError: no weights here"), ("wrong", "returned int, not an ASE")]
)
def test_factories_that_fail_are_reported(module, name, says):
    potential = resolve_potential(f"{module.stem}:{name}")
    with pytest.raises(PotentialError, match=says):
        potential.calculator()


def test_a_module_that_fails_to_import_is_reported(tmp_path, monkeypatch):
    (tmp_path / "half_a_potential_of_a_test.py").write_text("import a_dependency_that_is_missing\n")
    (tmp_path / "bad_potential_of_a_test.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PotentialError, match="needs 'a_dependency_that_is_missing', which is not installed"):
        resolve_potential("half_a_potential_of_a_test:model")
    with pytest.raises(PotentialError, match=r"importing 'bad_potential_of_a_test' failed \(ZeroDivisionError"):
        resolve_potential("bad_potential_of_a_test:model")


def test_resolving_a_name_loads_no_calculator_of_others():
    code = (
        "import sys, thermal_flows.potentials as p; p.resolve_potential('tersoff-si-ge'); print('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )


def test_potential_is_frozen():
    with pytest.raises(AttributeError):
        resolve_potential("emt").name = "other"
    assert isinstance(resolve_potential("emt"), Potential)

"""Model files: what is read from one, and how everything else is refused before any force."""

import hashlib
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from mace_training import ELEMENTS, labelled_cells, save, untrained
from thermal_flows.potentials import PotentialError, resolve_potential
from thermal_flows.structures import crystal


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return save(untrained(), tmp_path_factory.mktemp("models") / "tiny.model")


def test_a_file_says_what_it_describes(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    found = [resolve_potential(spec) for spec in ("tiny.model", "./tiny.model", tiny, str(tiny))]
    assert len(set(found)) == 1
    potential = found[0]
    sha256 = hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert (potential.name, potential.kind, potential.sha256) == ("tiny.model", "mace_file", sha256)
    assert potential.spec == f"{tiny}#sha256={sha256}"
    assert potential.elements == {"Si", "Ge"}
    assert (potential.file.cutoff, potential.file.n_layers, potential.hessian_range) == (3.6, 1, 7.2)
    assert (potential.dtype, potential.may_download, potential.analytic_hessian) == ("float64", False, True)
    assert hash(potential) == hash(pickle.loads(pickle.dumps(potential)))
    # elsewhere, as in a job, the spec still finds it
    monkeypatch.chdir(tmp_path)
    assert resolve_potential(potential.spec) == potential
    record = json.loads(json.dumps(potential.provenance()))
    assert record["sha256_of"] == "model file"
    assert set(record["packages"]) == {"ase", "mace-torch", "torch"}
    with pytest.raises(PotentialError, match="does not describe C; it knows Ge, Si"):
        potential.check_elements(crystal("SiC"))


def test_reading_a_model_leaves_torch_as_it_was(tiny):
    import torch

    before = torch.get_num_threads(), torch.get_default_dtype(), os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    calculator = resolve_potential(tiny).calculator(n_threads=2)
    atoms = bulk("Si")
    calculator.get_forces(atoms)
    calculator.forces_of([atoms])
    calculator.hessian_of(atoms, np.array([0]))
    after = torch.get_num_threads(), torch.get_default_dtype(), os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    assert after == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tiny)


def test_a_file_that_changed_since_the_flow_was_made_is_refused(tiny, tmp_path):
    path = tmp_path / "model.model"
    path.write_bytes(tiny.read_bytes())
    potential = resolve_potential(path)
    save(untrained(channels=8), path)
    with pytest.raises(
        PotentialError, match=r"has changed: its sha256 is .*Put the old file back, or make the flow again"
    ):
        resolve_potential(potential.spec)
    with pytest.raises(PotentialError, match="is not the file that was named"):
        potential.calculator()
    path.unlink()
    with pytest.raises(PotentialError, match=r"there is no file .*never downloaded"):
        resolve_potential(potential.spec)


class Stranger:
    def __reduce__(self):
        return os.system, ("touch the_file_ran_its_code",)


def _checkpoint(path, model):
    import torch

    torch.save({"model": model().state_dict(), "epoch": 3}, path)


def _state_dict(path, model):
    import torch

    torch.save(model().state_dict(), path)


def _other_class(path, model):
    import torch

    torch.save(torch.nn.Linear(2, 2), path)


def _for_lammps(path, model):
    from e3nn.util import jit
    from mace.calculators import LAMMPS_MACE

    jit.compile(LAMMPS_MACE(model())).save(path)


def _stranger(path, model):
    with_stranger = model()
    with_stranger.extra = Stranger()
    save(with_stranger, path)


def _archive(path, model):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing here")


def _damaged(path, model):
    save(model(), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _truncated(share):
    def write(path, model):
        save(model(), path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return write


def _written(content):
    return lambda path, _: path.write_bytes(content)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (_truncated(0.97), "is truncated.*copy it again"),
        (_truncated(0.4), "is truncated.*copy it again"),
        (_damaged, "is damaged.*copy it again"),
        (_written(b""), "is empty: copy it again"),
        (_written(b"version https://git-lfs.github.com/spec/v1\noid"), "pointer of Git LFS.*git lfs pull"),
        (_written(b"pair_style tersoff\n"), "is a text file, not a MACE model.*'module:callable'"),
        (_written(pickle.dumps({"a": 1})), "is a pickle.*NAME.model in its model directory"),
        (_written(b"\x00\xff\xfe\x93NUMPY"), "is not a torch file"),
        (_archive, "is an archive of something else.*readme.txt"),
        (_state_dict, "holds weights .*not a model.*NAME.model.*not one of its checkpoints"),
        (_checkpoint, "holds weights .*not a model.*NAME.model.*not one of its checkpoints"),
        (_other_class, "holds a torch.nn.modules.linear.Linear, not a MACE model"),
        (_for_lammps, "LAMMPS_MACE, not a MACE model"),
        (_stranger, r"names posix\.system, which no MACE model needs"),
    ],
)
def test_other_files_are_refused_with_the_cure(write, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "some.model"
    write(path, untrained)
    with pytest.raises(PotentialError, match=says):
        resolve_potential("some.model")
    assert not (tmp_path / "the_file_ran_its_code").exists()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("/no/such/folder/si_ge.model", "there is no file '/no/such/folder/si_ge.model'.*never downloaded"),
        ("teny.model", "there is no file .*Did you mean 'tiny.model'"),
        ("tiny.modle", "unknown potential 'tiny.modle'.*Did you mean 'tiny.model'"),
        ("./", "is a folder; name the model file in it"),
        (Path("other.pt"), "there is no file"),
    ],
)
def test_files_that_are_not_there(spec, says, tiny, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    with pytest.raises(PotentialError, match=says):
        resolve_potential(spec)


def test_a_model_of_single_precision_is_used_in_double(tmp_path):
    path = save(untrained().float(), tmp_path / "single.model")
    potential = resolve_potential(path)
    assert potential.file.stored_dtype == "float32"
    assert potential.provenance()["warnings"] == [
        "The weights of single.model are stored in float32; they are used in float64."
    ]
    atoms = labelled_cells(1, seed=5)[0]
    double = resolve_potential(save(untrained(), tmp_path / "double.model")).calculator()
    forces = potential.calculator().get_forces(atoms)
    # rounded weights, but no float32 arithmetic
    assert 0 < np.abs(forces - double.get_forces(atoms)).max() < 1e-5
    assert not np.array_equal(forces, forces.astype(np.float32))


def test_torchscript_files_give_the_same_numbers(tiny, tmp_path):
    import torch
    from e3nn.util import jit

    from thermal_flows.potentials.torch_state import double_precision

    path = tmp_path / "tiny_compiled.model"
    with double_precision():
        torch.jit.save(jit.compile(untrained()), path)
    potential = resolve_potential(path)
    assert potential.file.scripted
    atoms = labelled_cells(1, seed=6)[0]
    plain, scripted = resolve_potential(tiny).calculator(), potential.calculator()
    np.testing.assert_allclose(scripted.get_forces(atoms), plain.get_forces(atoms), atol=1e-12)
    rows = np.array([5, 0])
    np.testing.assert_allclose(scripted.hessian_of(atoms, rows), plain.hessian_of(atoms, rows), atol=1e-11)


def test_heads_must_be_chosen(tmp_path):
    from thermal_flows.potentials.mace_calculator import BatchedMACE

    model = untrained()
    model.heads = ["first", "second"]
    with pytest.raises(PotentialError, match=r"has the heads first, second and none called 'Default'.*head='first'"):
        BatchedMACE("two heads", model)


def test_devices_are_checked(tiny):
    import torch

    potential = resolve_potential(tiny)
    with pytest.raises(PotentialError, match="device must be"):
        potential.calculator(device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(PotentialError, match=r"sees no CUDA device here\. Use device 'cpu'"):
            potential.calculator(device="cuda")


def test_elements_of_the_model(tiny):
    calculator = resolve_potential(tiny).calculator()
    assert sorted(calculator.known_elements) == ["Ge", "Si"]
    assert len(ELEMENTS) == len(calculator.z_table)
    atoms = bulk("Cu")
    for call in (
        lambda: calculator.get_forces(atoms),
        lambda: calculator.forces_of([atoms]),
        lambda: calculator.hessian_of(atoms, np.array([0])),
    ):
        with pytest.raises(PotentialError, match="does not describe Cu"):
            call()

"""Two crystals and a model file of the user's own: relaxed, stacked, solved and stored, as with any other potential."""

import json

import pytest
from jobflow import Flow
from monty.json import MontyDecoder, MontyEncoder

from thermal_flows.flows import InterfaceTransmissionMaker
from thermal_flows.potentials import PotentialError, resolve_potential
from thermal_flows.structures import crystal

from .conftest import coarse, document, run


def landauer(doc):
    return next(
        g.value
        for g in doc.conductance
        if (g.temperature, g.method, g.definition, g.statistics) == (300, "mode_matching", "landauer", "quantum")
    )


def test_a_pair_with_a_locally_trained_model(mace_file, store, tmp_path, monkeypatch):
    monkeypatch.chdir(mace_file.parent)
    maker = coarse(f"./{mace_file.name}", q_mesh=(4, 4), n_frequencies=30)
    # jobs run elsewhere, after the flow came back from a database
    monkeypatch.chdir(tmp_path)
    flow = MontyDecoder().decode(
        json.dumps(maker.make(crystal("Ge"), crystal("Si"), max_strain=0.06), cls=MontyEncoder)
    )
    assert isinstance(flow, Flow)
    run(flow, store)
    doc = document(flow, store)
    record = doc.provenance.potential
    assert (record["name"], record["kind"]) == ("si_ge.model", "mace_file")
    assert record["sha256"] == resolve_potential(mace_file).sha256
    assert record["parameters"]["n_layers"] == 1
    checks = doc.junction_checks
    assert max(checks.mismatch_left, checks.mismatch_right) < 1e-5
    assert checks.asymmetry < 1e-10
    assert checks.sum_rule < 1e-10
    assert doc.transmission_checks.conservation < 1e-8
    # the model has learnt what its labels say
    teacher = coarse("tersoff-si-ge", q_mesh=(4, 4), n_frequencies=30).make(
        crystal("Ge"), crystal("Si"), max_strain=0.06
    )
    run(teacher, store)
    taught = document(teacher, store)
    assert landauer(doc) == pytest.approx(landauer(taught), rel=0.25)
    assert doc.method_id != taught.method_id
    assert doc.system_id == taught.system_id


def test_elements_of_the_model_are_checked_by_make(mace_file):
    maker = InterfaceTransmissionMaker.from_potential(str(mace_file))
    with pytest.raises(PotentialError, match=r"si_ge\.model' does not describe C; it knows Ge, Si"):
        maker.make(crystal("diamond"), crystal("Si"))


def test_a_model_that_changes_after_make_is_refused_by_the_job(mace_file, store, tmp_path):
    path = tmp_path / "mine.model"
    path.write_bytes(mace_file.read_bytes())
    flow = coarse(str(path)).make(crystal("Ge"), crystal("Si"), max_strain=0.06)
    path.write_bytes(mace_file.read_bytes()[:-1])
    with pytest.raises(PotentialError, match=r"mine\.model' (is truncated|has changed)"):
        run(flow, store, raise_immediately=True)


def test_potentials_with_ripples_are_not_compared_with_differences():
    pytest.importorskip("chgnet")
    maker = InterfaceTransmissionMaker.from_potential("CHGNet")
    assert maker.junction_maker.compare == ("device_length",)
    maker.junction_maker.compare = ("hessian",)
    with pytest.raises(
        PotentialError, match=r"forces of CHGNet are not smooth enough.*leave it out of junction_maker\.compare"
    ):
        maker.make(crystal("Ge"), crystal("Si"))

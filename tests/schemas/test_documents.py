"""Documents: what they refuse, and how infinities and time zones are written."""

import json
from datetime import UTC, datetime

import pytest
from monty.json import MontyDecoder, jsanitize
from pydantic import BaseModel, ValidationError

from thermal_flows import schemas
from thermal_flows.schemas import CrystalDoc, InterfaceDoc, JunctionDoc, Provenance
from thermal_flows.schemas.common import conductance_value
from thermal_flows.structures import crystal


def models() -> list[type[BaseModel]]:
    return [m for m in vars(schemas).values() if isinstance(m, type) and issubclass(m, BaseModel)]


@pytest.mark.parametrize("model", models(), ids=lambda m: m.__name__)
def test_every_number_says_what_it_is(model):
    """A description for every field but those whose name says it all, with a unit where there is a dimension."""
    plain = {
        "doc_type",
        "schema_version",
        "provenance",
        "checks",
        "junction_checks",
        "mean_spectrum",
        "transmission_checks",
    }
    for name, field in model.model_fields.items():
        assert name in plain or field.description, f"{model.__name__}.{name}"
    units = {"area": "Angstrom^2", "temperature": "K", "max_force": "eV/Angstrom", "max_stress": "GPa", "timings": "s"}
    for name, unit in units.items():
        if name in model.model_fields:
            assert unit in model.model_fields[name].description


def test_conductance_and_resistance_go_together():
    found = conductance_value(250.0, 300, "landauer", "quantum", "mode_matching", 2.5)
    assert (found.value, found.resistance, found.error) == (250.0, 4.0, 2.5)


def test_no_interface_and_no_transmission():
    perfect = conductance_value(float("inf"), 300, "nonequilibrium", "quantum", "mode_matching", None)
    assert (perfect.value, perfect.resistance, perfect.error) == (None, 0.0, None)
    closed = conductance_value(0.0, 300, "landauer", "quantum", "mode_matching", 0.0)
    assert (closed.value, closed.resistance, closed.error) == (0.0, None, 0.0)
    for found in (perfect, closed):
        assert json.loads(found.model_dump_json()) == found.model_dump()


def crystal_doc() -> CrystalDoc:
    return CrystalDoc(
        formula="Si",
        structure=crystal("Si"),
        input_structure=crystal("Si"),
        energy_per_atom=-4.3,
        max_force=1e-8,
        max_stress=1e-7,
        steps=3,
        provenance=Provenance(),
    )


def test_unknown_fields_are_refused():
    content = crystal_doc().model_dump()
    with pytest.raises(ValidationError, match="max_forces"):
        CrystalDoc(**content, max_forces=1.0)
    with pytest.raises(ValidationError, match="doc_type"):
        CrystalDoc(**{**content, "doc_type": "InterfaceDoc"})


def test_labels_of_a_store_are_no_fields():
    stored = jsanitize(crystal_doc(), strict=True, allow_bson=False)
    assert {"@module", "@class"} <= set(stored)
    again = CrystalDoc.model_validate(json.loads(json.dumps(stored)))
    assert again.structure == crystal("Si")
    assert again == MontyDecoder().decode(json.dumps(stored))
    with pytest.raises(ValidationError):
        CrystalDoc.model_validate({**stored, "@other": 1})


def test_times_are_in_utc():
    assert Provenance().created_at.tzinfo is not None
    naive = Provenance(created_at=datetime(2026, 1, 2, 3, 4, 5))
    assert naive.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_documents_are_told_apart():
    kinds = {m.model_fields["doc_type"].default for m in (CrystalDoc, JunctionDoc, InterfaceDoc)}
    assert kinds == {"CrystalDoc", "JunctionDoc", "InterfaceDoc"}

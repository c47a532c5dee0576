"""The document of Si|Ge, against the science functions called by hand and against itself."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from jobflow import Flow, JobStore
from monty.json import MontyDecoder, jsanitize

from thermal_flows import __version__
from thermal_flows.potentials import resolve_potential
from thermal_flows.potentials.relaxation import relax
from thermal_flows.schemas import ARRAY_FIELDS, InterfaceDoc
from thermal_flows.schemas.identity import crystal_identity, sha256_of
from thermal_flows.structures import build_interface, crystal
from thermal_flows.transport import construct_junction, solve_transmission

from .conftest import COARSE, TEMPERATURES


@pytest.fixture(scope="module")
def by_hand():
    """The same calculation in a notebook: no job, no document."""
    from pymatgen.io.ase import AseAtomsAdaptor as Adaptor

    calculator = resolve_potential("tersoff-si-ge").calculator()
    relaxed = [
        Adaptor.get_structure(relax(Adaptor.get_atoms(crystal(x), msonable=False), calculator, "full", fmax=1e-7).atoms)
        for x in ("Si", "Ge")
    ]
    built = construct_junction(build_interface(*relaxed), calculator)
    spectrum = solve_transmission(
        built.assembly.junction, COARSE["q_mesh"], COARSE["n_frequencies"], resolve_modes=True, n_workers=1
    )
    return built, spectrum


def test_conductances_are_those_of_the_science_functions(doc: InterfaceDoc, by_hand):
    built, general = by_hand
    assert len(doc.conductance) == 7 * len(TEMPERATURES)
    # at 50 K k_B T / h spans fewer than five bins of so coarse a grid
    cold = solve_transmission(
        built.assembly.junction, COARSE["q_mesh"], COARSE["n_frequencies"], temperature=50.0, n_workers=1
    )
    assert doc.provenance.parameters["transmission"]["temperatures_with_own_grid"] == [50.0]
    for t in TEMPERATURES:
        excited = cold if t == 50 else general
        for definition in ("landauer", "nonequilibrium"):
            for statistics, spectrum in (("quantum", excited), ("classical", general)):
                expected = float(spectrum.conductance(t, statistics, definition)[0])
                assert doc.value(t, definition, statistics).value == pytest.approx(expected, rel=1e-8)
        for method, model in (
            ("diffuse_mismatch", excited.diffuse_mismatch()),
            ("maximum_transmission", excited.maximum_transmission()),
            ("radiation_limit", excited.radiation_limit("right")),
        ):
            assert doc.value(t, method=method).value == pytest.approx(float(model.conductance(t)[0]), rel=1e-8)


def test_conductances_are_ordered_as_physics_has_it(doc: InterfaceDoc):
    for t in TEMPERATURES:
        landauer, classical = doc.value(t).value, doc.value(t, statistics="classical").value
        assert landauer < classical
        assert doc.value(t, "nonequilibrium").value > landauer
        assert doc.value(t).resistance == pytest.approx(1e3 / landauer)
    values = [doc.value(t).value for t in TEMPERATURES]
    assert values == sorted(values)
    # the spread of classical values is none: equipartition
    assert len({round(doc.value(t, statistics="classical").value, 6) for t in TEMPERATURES}) == 1
    assert 250 < doc.value(300).value < 400


def test_geometry_and_checks_are_those_of_the_construction(doc: InterfaceDoc, by_hand):
    built, spectrum = by_hand
    junction = built.assembly.junction
    assert (doc.substrate_formula, doc.film_formula, doc.label) == ("Si", "Ge", "Si(001)|Ge(001)")
    assert doc.area == pytest.approx(junction.area, rel=1e-9)
    assert doc.stacking_units == list(built.units)
    assert doc.strain["strained"] == "film"
    assert np.abs(doc.strain["film"]["principal"]).max() == pytest.approx(0.04, abs=0.005)
    assert doc.interface_z == pytest.approx(0.49 * doc.structure.volume / doc.area, rel=0.05)
    assert len(doc.structure) == sum(built.units) * 2
    assert {s.symbol for s in doc.structure.elements} == {"Si", "Ge"}
    checks = doc.junction_checks
    assert max(checks.mismatch_left, checks.mismatch_right) < 1e-5
    assert checks.sum_rule < 1e-10
    assert checks.max_force < 1e-6
    assert checks.residual_shear < 1e-5
    assert checks.neglected < 1e-6
    assert checks.lengths_tried[-1][:2] == [float(n) for n in built.units]
    assert doc.transmission_checks.solved == spectrum.checks.solved
    assert doc.transmission_checks.points == doc.mean_spectrum.frequencies.__len__() * len(doc.spectrum["q_weights"])
    assert doc.transmission_checks.conservation_over_bound < 1
    assert doc.force_constants["method"] == "analytic"
    assert doc.force_constants["range"] == pytest.approx(built.cutoff, abs=1e-6)


def test_mean_spectrum_is_the_average(doc: InterfaceDoc):
    weights = np.array(doc.spectrum["q_weights"])
    assert weights.sum() == pytest.approx(1.0)
    for mean, full in (
        (doc.mean_spectrum.transmission, doc.spectrum["transmission"]),
        (doc.mean_spectrum.modes_left, doc.spectrum["modes_left"]),
        (doc.mean_spectrum.modes_right, doc.spectrum["modes_right"]),
    ):
        np.testing.assert_allclose(mean, weights @ np.array(full), atol=1e-12)
    assert len(doc.mean_spectrum.frequencies) == COARSE["n_frequencies"]


def test_density_of_states_counts_three_modes_an_atom(doc: InterfaceDoc):
    for side in ("left", "right"):
        frequencies, states = (np.array(doc.density_of_states[f"{side}_{k}"]) for k in ("frequencies", "states"))
        assert np.trapezoid(states, frequencies) == pytest.approx(3.0, rel=2e-2)  # on a mesh of 8 x 8 x 8


# -- convergence


def test_every_setting_was_varied(doc: InterfaceDoc):
    tests = {test.parameter: test for test in doc.convergence}
    assert list(tests) == ["q_mesh", "n_frequencies", "device_length", "hessian"]
    assert tests["q_mesh"].used == [6, 6]
    assert tests["q_mesh"].compared in ([3, 3], [4, 4])
    assert tests["n_frequencies"].used == 40
    assert tests["n_frequencies"].compared in (20, 21)
    assert tests["hessian"].used == "analytic"
    assert tests["hessian"].compared.startswith("finite differences, step 0.0")
    assert tests["device_length"].used != tests["device_length"].compared
    for test in doc.convergence:
        change = abs(test.conductance_compared - test.conductance_used) / test.conductance_used
        assert test.relative_change == pytest.approx(change)
        assert test.temperature == 300
    # neither the length of the device nor the way to the force constants matters
    assert tests["device_length"].relative_change < 1e-5
    assert tests["hessian"].relative_change < 1e-5
    assert tests["q_mesh"].conductance_used == pytest.approx(doc.value(300).value)
    assert tests["device_length"].settings == "3 x 3 wave vectors, 40 frequencies"


def test_error_is_the_sum_of_the_changes_and_decides_on_convergence(doc: InterfaceDoc):
    total = sum(abs(t.conductance_compared - t.conductance_used) for t in doc.convergence)  # at 300 K
    assert doc.value(300).error == pytest.approx(total)
    assert doc.converged == (sum(t.relative_change for t in doc.convergence) <= doc.convergence_tolerance)
    assert not doc.converged
    assert any(w.startswith("Not converged: ") for w in doc.warnings)


def test_error_bar_covers_a_finer_mesh(doc: InterfaceDoc):
    finer = solve_transmission(doc.junction(), (12, 12), 80, n_workers=1)
    for t in (100, 300, 500):
        assert abs(finer.conductance(t)[0] - doc.value(t).value) < doc.value(t).error
        diffuse = doc.value(t, method="diffuse_mismatch")
        assert abs(finer.diffuse_mismatch().conductance(t)[0] - diffuse.value) < diffuse.error


# -- storage


def test_arrays_are_offloaded_and_the_document_is_small(finished: Flow, store: JobStore):
    outputs = list(store.query({"output.doc_type": {"$in": ["InterfaceDoc", "JunctionDoc"]}}))
    assert {o["output"]["doc_type"] for o in outputs} == {"InterfaceDoc", "JunctionDoc"}
    for stored in outputs:
        assert len(json.dumps(jsanitize(stored))) < 1_000_000
        held = [name for name in ARRAY_FIELDS if stored["output"].get(name)]
        assert held
        assert all("blob_uuid" in stored["output"][name] for name in held)


def test_loaded_arrays_are_the_live_ones(doc: InterfaceDoc, by_hand):
    built, spectrum = by_hand
    for name in ("frequencies", "frequency_weights", "q_points", "q_weights", "modes_left", "modes_right"):
        np.testing.assert_allclose(doc.spectrum[name], getattr(spectrum, name), rtol=1e-8)
    np.testing.assert_allclose(doc.spectrum["transmission"], spectrum.transmission, atol=1e-6)
    live = built.assembly.junction.to_arrays()
    for name, values in live.items():
        np.testing.assert_allclose(doc.junction_arrays[name], values, atol=1e-6)
    assert len(doc.modes["velocities"]) == len(spectrum.modes)


def test_live_objects_come_back_from_the_store(doc: InterfaceDoc):
    spectrum = doc.transmission_spectrum()
    for definition in ("landauer", "nonequilibrium"):
        np.testing.assert_allclose(
            spectrum.conductance(TEMPERATURES[1:], definition=definition),  # 50 K has a grid of its own
            [doc.value(t, definition).value for t in TEMPERATURES[1:]],
            rtol=1e-12,
        )
    assert spectrum.checks.solved == doc.transmission_checks.solved
    again = solve_transmission(doc.junction(), COARSE["q_mesh"], COARSE["n_frequencies"], n_workers=1)
    np.testing.assert_allclose(again.transmission, spectrum.transmission, atol=1e-12)
    # the modes add up to the transmission
    modes = spectrum.modes
    summed = np.zeros_like(spectrum.transmission)
    left = modes.side == 0
    np.add.at(summed, (modes.q_index[left], modes.frequency_index[left]), modes.transmittances[left])
    np.testing.assert_allclose(summed, spectrum.transmission, atol=1e-9)
    np.testing.assert_allclose(modes.transmittances + modes.reflectances, 1.0, atol=1e-9)


def test_arrays_that_were_not_loaded_are_asked_for(finished: Flow, store: JobStore):
    bare = InterfaceDoc.model_validate(store.get_output(finished.output.uuid, load=False))
    assert bare.value(300).value > 0
    for ask in (bare.junction, bare.transmission_spectrum):
        with pytest.raises(ValueError, match="not loaded: query the job store with load=True"):
            ask()


def test_document_survives_json(doc: InterfaceDoc):
    text = json.dumps(jsanitize(doc, strict=True, allow_bson=False))
    again = InterfaceDoc.model_validate(json.loads(text))
    assert again == doc
    decoded = MontyDecoder().decode(text)
    assert isinstance(decoded, InterfaceDoc)
    assert decoded.interface_id == doc.interface_id


# -- provenance


def test_provenance_says_where_it_came_from(doc: InterfaceDoc, finished: Flow):
    provenance = doc.provenance
    assert provenance.potential["name"] == "tersoff-si-ge"
    assert provenance.potential["sha256"] == resolve_potential("tersoff-si-ge").sha256
    assert provenance.packages["thermal-flows"] == __version__
    assert {"numpy", "ase", "phonopy", "matscipy", "jobflow"} <= set(provenance.packages)
    assert provenance.job_uuids == list(finished.job_uuids)
    assert "10.1103/PhysRevB.39.5566" in provenance.citations
    assert len(provenance.citations) == len(set(provenance.citations))
    assert abs((datetime.now(UTC) - provenance.created_at).total_seconds()) < 3600
    parameters = provenance.parameters
    assert parameters["construction"]["fmax"] == 1e-7
    assert [c["fmax"] for c in parameters["crystals"]] == [1e-7, 1e-7]
    assert parameters["transmission"]["q_mesh"] == [6, 6]
    assert parameters["interface"]["substrate_miller"] == [0, 0, 1]
    assert set(doc.timings) >= {"junction", "transmission", "convergence tests", "comparison: hessian"}


def test_ids_are_hashes_of_what_they_name(doc: InterfaceDoc):
    assert doc.system["substrate"] == crystal_identity(crystal("Si"))
    assert doc.system["film"] == crystal_identity(crystal("Ge"))
    assert doc.system_id == sha256_of(doc.system)
    assert doc.interface_id == sha256_of([doc.system_id, doc.method_id])
    assert len({doc.system_id, doc.method_id, doc.interface_id}) == 3


def test_a_value_that_was_not_calculated(doc: InterfaceDoc):
    with pytest.raises(KeyError, match="no landauer quantum mode_matching conductance at 77 K; there are: 100 K"):
        doc.value(77)
    with pytest.raises(KeyError, match="nonequilibrium quantum diffuse_mismatch"):
        doc.value(300, "nonequilibrium", method="diffuse_mismatch")

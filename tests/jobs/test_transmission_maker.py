"""The transmission job: refinement, errors, warnings and settings, on the real junction Si|Ge."""

import dataclasses
import itertools

import numpy as np
import pytest
from jobflow import JobStore
from maggma.stores import MemoryStore

from lattice.systems import SW, construction
from thermal_flows.jobs import JunctionImportMaker, JunctionMaker, TransmissionMaker
from thermal_flows.jobs.transmission import _coarser_grids, _coarser_meshes, _warnings
from thermal_flows.progress import StreamReporter, reporting
from thermal_flows.schemas import InterfaceDoc, JunctionDoc
from thermal_flows.schemas.interface import junction_from_lists
from thermal_flows.transport import ConstructionSettings, Junction, solve_transmission


@pytest.fixture(scope="module")
def store() -> JobStore:
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    return store


@pytest.fixture(scope="module")
def junction() -> Junction:
    return construction("Si", "Ge").assembly.junction


def imported(junction: Junction, store: JobStore, left: str = "Si", right: str = "Ge") -> JunctionDoc:
    arrays = {name: values.tolist() for name, values in junction.to_arrays().items()}
    return JunctionImportMaker().make(arrays, left, right).run(store).output


def interface(doc: JunctionDoc, store: JobStore, **options) -> InterfaceDoc:
    settings = {"q_mesh": (4, 4), "n_frequencies": 20, "n_workers": 1, "temperatures": (300,), **options}
    return TransmissionMaker(**settings).make(doc).run(store).output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"q_mesh": (1, 4)}, r"at least \(2, 2\).*got \(1, 4\)"),
        ({"q_mesh": ()}, "two whole numbers"),
        ({"q_mesh": (4,)}, "two whole numbers"),
        ({"q_mesh": (4, 4, 4)}, r"two whole numbers of in-plane wave vectors, such as \(20, 20\)"),
        ({"q_mesh": (4.5, 4)}, "two whole numbers"),
        ({"n_frequencies": 1}, "n_frequencies must be at least 2"),
        ({"temperatures": ()}, "at least one temperature"),
        ({"temperatures": (300, 0)}, "temperatures must be positive"),
        ({"temperatures": (float("nan"),)}, "temperatures must be positive"),
        ({"reference_temperature": -1}, "temperatures must be positive"),
    ],
)
def test_unusable_settings(options, message):
    with pytest.raises(ValueError, match=message):
        TransmissionMaker(**options)


@pytest.mark.parametrize(
    ("mesh", "coarser"),
    [
        ((20, 20), [(10, 10), (13, 13)]),
        ((6, 6), [(3, 3), (4, 4)]),
        ((2, 2), [(1, 1)]),
        ((3, 8), [(1, 4), (2, 5)]),
    ],
)
def test_coarser_meshes(mesh, coarser):
    assert _coarser_meshes(mesh) == coarser


@pytest.mark.parametrize(("n", "coarser"), [(200, [100, 101]), (3, [1, 2]), (2, [1])])
def test_coarser_grids(n, coarser):
    assert _coarser_grids(n) == coarser


def test_refinement_goes_on_until_converged_and_says_what_it_used(junction, store):
    doc = interface(imported(junction, store), store, convergence_tolerance=0.08, max_refinements=4)
    used = doc.provenance.parameters["transmission"]
    assert doc.converged
    assert (used["requested_q_mesh"], used["requested_n_frequencies"]) == ([4, 4], 20)
    assert used["q_mesh"] != [4, 4] or used["n_frequencies"] != 20
    assert sum(t.relative_change for t in doc.convergence) <= 0.08
    assert not any(w.startswith("Not converged") for w in doc.warnings)
    expected = solve_transmission(junction, tuple(used["q_mesh"]), used["n_frequencies"], n_workers=1)
    assert doc.value(300).value == pytest.approx(float(expected.conductance(300)[0]), rel=1e-12)


def test_refinement_ends(junction, store):
    doc = interface(imported(junction, store), store, convergence_tolerance=1e-9, max_refinements=1)
    used = doc.provenance.parameters["transmission"]
    assert not doc.converged
    assert (used["q_mesh"], used["n_frequencies"]) in (([8, 8], 20), ([4, 4], 40))


@pytest.mark.parametrize(("mesh", "n"), [((6, 6), 60), ((8, 8), 60), ((9, 9), 60), ((12, 12), 50)], ids=str)
def test_error_bars_cover_twice_the_mesh(junction, store, mesh, n):
    """At (6, 6) half of the mesh meets nearly the same value, 10 MW/(m2 K) off: a second mesh tells."""
    doc = interface(
        imported(junction, store),
        store,
        q_mesh=mesh,
        n_frequencies=n,
        temperatures=(50, 100, 300),
        max_refinements=0,
        resolve_modes=False,
    )
    finer = solve_transmission(junction, (2 * mesh[0], 2 * mesh[1]), 2 * n, n_workers=1)
    for t in (50, 100, 300):
        assert abs(finer.conductance(t)[0] - doc.value(t).value) <= doc.value(t).error
        classical = doc.value(t, statistics="classical")
        assert abs(finer.conductance(t, "classical")[0] - classical.value) <= classical.error


def test_modes_are_kept_only_on_request(junction, store):
    source = imported(junction, store)
    with_modes, without = (interface(source, store, resolve_modes=r, max_refinements=0) for r in (True, False))
    assert without.modes is None
    assert with_modes.modes is not None
    assert without.value(300).value == pytest.approx(with_modes.value(300).value, rel=1e-9)
    assert without.transmission_spectrum().modes is None


def test_the_reference_temperature_is_among_the_results(junction, store):
    doc = interface(imported(junction, store), store, temperatures=(77,), reference_temperature=250, max_refinements=0)
    assert sorted({c.temperature for c in doc.conductance}) == [77, 250]
    assert {t.temperature for t in doc.convergence} == {250}


def test_definitions_are_all_there_and_labelled(junction, store):
    doc = interface(imported(junction, store), store, temperatures=(300,), max_refinements=0)
    labels = [(c.definition, c.statistics, c.method) for c in doc.conductance]
    assert sorted(labels) == sorted(
        [
            *itertools.product(("landauer", "nonequilibrium"), ("quantum", "classical"), ("mode_matching",)),
            ("landauer", "quantum", "diffuse_mismatch"),
            ("landauer", "quantum", "maximum_transmission"),
            ("landauer", "quantum", "radiation_limit"),
        ]
    )
    assert doc.value(300.0).value < doc.value(300.0, method="maximum_transmission").value
    assert doc.value(300.0, method="maximum_transmission").value < doc.value(300.0, method="radiation_limit").value
    for c in doc.conductance:
        assert c.resistance == pytest.approx(1e3 / c.value)
        assert c.error > 0


def test_warnings(junction, store):
    metals = interface(imported(junction, store, "Cu", "NiAl"), store, temperatures=(300,), max_refinements=0)
    assert metals.warnings[0].startswith("Elastic, harmonic transmission")
    assert any(w.startswith("Cu holds metals only") and "phonons only" in w for w in metals.warnings)
    assert any(w.startswith("NiAl holds metals only") for w in metals.warnings)
    plain = interface(imported(junction, store, "Si", "TiN"), store, temperatures=(300,), max_refinements=0)
    assert not any("metals only" in w for w in plain.warnings)


def test_low_temperatures_have_a_grid_of_their_own(junction, store):
    """A general grid misses what is excited at 2 K; the document holds the value, and an error, of one made for it."""
    doc = interface(imported(junction, store), store, temperatures=(2, 300), max_refinements=0)
    assert doc.provenance.parameters["transmission"]["temperatures_with_own_grid"] == [2.0]
    found = {(c.definition, c.statistics, c.method, c.temperature): c for c in doc.conductance}
    cold = found["landauer", "quantum", "mode_matching", 2.0]
    fine = solve_transmission(junction, (16, 16), 60, temperature=2.0, n_workers=1)
    assert abs(cold.value - fine.conductance([2.0])[0]) < cold.error < 0.2 * cold.value
    general = solve_transmission(junction, (4, 4), 20, n_workers=1)
    assert general.conductance([2.0])[0] < 1e-6 * cold.value
    assert found["landauer", "classical", "mode_matching", 2.0].value == pytest.approx(
        general.conductance([2.0], "classical")[0], rel=1e-12
    )


def test_energy_that_is_not_conserved_is_warned_of(junction, store):
    doc = imported(junction, store)
    spectrum = solve_transmission(junction, (2, 2), 10, n_workers=1)
    assert not any("not conserved" in w for w in _warnings(doc, spectrum, 0.0, 0.0, 0.01))
    for name in ("conservation", "reciprocity"):
        checks = dataclasses.replace(spectrum.checks, **{name: 2e-3, f"{name}_over_bound": 2e6})
        found = _warnings(doc, dataclasses.replace(spectrum, checks=checks), 0.0, 0.0, 0.01)
        assert any("Energy is not conserved to round-off" in w and "2.0e-03" in w for w in found)


def test_the_second_solver_is_asked_too(junction, store):
    doc = imported(junction, store)
    checks = interface(doc, store, temperatures=(300,), max_refinements=0).transmission_checks
    assert 0 < checks.second_solver < 1e-8  # two routes of arithmetic, not one called twice
    spectrum = solve_transmission(junction, (2, 2), 10, n_workers=1)
    assert any("Green's functions differ by 2.0e-06" in w for w in _warnings(doc, spectrum, 2e-6, 0.0, 0.01))


def test_stages_are_reported(junction, store, capsys):
    with reporting(StreamReporter()):
        interface(imported(junction, store), store, max_refinements=0)
    assert "transmission, 4 x 4 wave vectors, 20 frequencies" in capsys.readouterr().err


# -- junction jobs


def test_junction_maker_takes_what_json_gives():
    maker = JunctionMaker(settings={"fmax": 1e-5, "@module": "x", "@class": "y"}, compare=["hessian"])
    assert maker.settings == ConstructionSettings(fmax=1e-5)
    assert maker.compare == ("hessian",)
    with pytest.raises(ValueError, match="unknown comparison basis; known are device_length, hessian"):
        JunctionMaker(compare=("basis",))
    with pytest.raises(TypeError, match="f_max"):
        JunctionMaker(settings={"f_max": 1e-5})


def test_imported_junction_comes_back(junction, store):
    doc = imported(junction, store)
    again = doc.junction()
    for name, values in junction.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], values)
    assert doc.n_atoms == [junction.left.n_atoms, junction.device.n_atoms, junction.right.n_atoms]
    assert doc.area == junction.area
    assert imported(junction, store).system == doc.system
    assert imported(construction("Si", "Si", SW).assembly.junction, store).system != doc.system


def test_arrays_that_are_not_a_junction():
    with pytest.raises(ValueError, match="not loaded"):
        junction_from_lists({"@class": "list", "blob_uuid": "x"})

"""The flow from two crystals: what it refuses at once, how it is changed and stored, how it fails and goes on."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from jobflow import Flow, JobStore, run_locally
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Lattice, Structure
from pymatgen.core.operations import SymmOp
from scipy.spatial.transform import Rotation

from lattice.systems import SW, construction
from thermal_flows.flows import InterfaceTransmissionMaker, unfinished
from thermal_flows.jobs import CrystalRelaxMaker, JunctionMaker, TransmissionMaker
from thermal_flows.potentials import PotentialError
from thermal_flows.schemas import CrystalDoc, InterfaceDoc, JunctionDoc
from thermal_flows.schemas.identity import interface_identity, sha256_of
from thermal_flows.structures import StructureError, build_interface, crystal, find_matches
from thermal_flows.transport import ConstructionSettings, Junction, JunctionError, UnstableLeadError, solve_transmission

from .conftest import COARSE, coarse, document, run


@pytest.fixture(scope="module")
def silicon_doc(store: JobStore) -> InterfaceDoc:
    """Si|Si (001), Stillinger-Weber: quick, and its answer is known."""
    flow = coarse("sw-si").make(crystal("Si"), crystal("Si"))
    run(flow, store)
    return document(flow, store)


# -- refused before any job exists


def test_an_element_that_the_potential_does_not_know():
    with pytest.raises(PotentialError, match=r"'tersoff-si-ge' does not describe C; it knows Ge, Si"):
        InterfaceTransmissionMaker.from_potential("tersoff-si-ge").make(crystal("diamond"), crystal("Si"))


def test_an_element_unknown_to_one_of_two_potentials():
    maker = InterfaceTransmissionMaker.from_potential("tersoff-si-ge")
    maker.crystal_maker.potential = "sw-si"
    with pytest.raises(PotentialError, match="'sw-si' does not describe Ge"):
        maker.make(crystal("Ge"), crystal("Si"))


def test_a_potential_that_does_not_exist():
    with pytest.raises(PotentialError, match="Did you mean 'tersoff-si-ge'"):
        InterfaceTransmissionMaker.from_potential("tersof-si-ge")


def test_an_incommensurate_pair():
    maker = InterfaceTransmissionMaker.from_potential("tersoff-si-c")
    with pytest.raises(StructureError, match=r"no common cell within max_area = 10 A\^2 .* raise max_area to \d+ A\^2"):
        maker.make(crystal("diamond"), crystal("Si"), max_area=10)


def test_slabs_and_cells_that_are_too_large():
    maker = InterfaceTransmissionMaker.from_potential("tersoff-si-ge")
    slab = crystal("Si").to_conventional()
    slab = Structure(
        Lattice.tetragonal(slab.lattice.a, 25.0), slab.species, slab.cart_coords, coords_are_cartesian=True
    )
    with pytest.raises(StructureError, match=r"empty gap of \d+\.\d A.*not a bulk crystal"):
        maker.make(crystal("Ge"), slab)
    with pytest.raises(
        StructureError, match=r"only 3 stacking units a side has 12000 atoms.*more than max_atoms = 6000"
    ):
        maker.make(crystal("Ge"), crystal("Si"), substrate_supercell=1, film_supercell=1, supercell=(50, 10))


def test_strain_above_the_limit_of_the_user():
    maker = InterfaceTransmissionMaker.from_potential("tersoff-si-ge")
    maker.make(crystal("Ge"), crystal("Si"), max_strain=0.041)  # 4.0 % as given, relaxation will tell
    with pytest.raises(StructureError, match=r"max_strain = 0\.5 %"):
        maker.make(crystal("Ge"), crystal("Si"), max_strain=0.005, max_area=20)
    # crystals that are taken as they are get no slack
    maker.crystal_maker = None
    with pytest.raises(StructureError, match=r"max_strain = 2 %"):
        maker.make(crystal("Ge"), crystal("Si"), max_strain=0.02, max_area=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strain": "neither"}, "strain must be"),
        ({"film_miller": (0, 0, 0)}, "0"),
        ({"film_termination": 7}, "termination"),
        ({"gap": -1.0}, "gap is a positive distance"),
        ({"shift": (0.5,)}, "shift is two fractions"),
    ],
)
def test_other_unusable_options(options, message):
    with pytest.raises(StructureError, match=message):
        InterfaceTransmissionMaker.from_potential("tersoff-si-ge").make(crystal("Ge"), crystal("Si"), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperatures": (0,)}, "temperatures must be positive"),
        ({"temperatures": (300, -5)}, "temperatures must be positive"),
        ({"reference_temperature": 0.0}, "temperatures must be positive"),
        ({"q_mesh": (0, 0)}, "q_mesh must be at least"),
    ],
)
def test_unusable_solver_settings_fail_with_the_maker(options, message):
    with pytest.raises(ValueError, match=message):
        InterfaceTransmissionMaker.from_potential("tersoff-si-ge", **options)


def test_a_misspelt_setting_is_refused_before_the_forces(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("THERMAL_FLOWS_WORKERS", "2")
    with pytest.raises(ValueError, match="unknown settings in the environment: THERMAL_FLOWS_WORKERS"):
        coarse("sw-si").make(crystal("Si"), crystal("Si"))


def test_unknown_options_are_errors():
    with pytest.raises(TypeError, match="n_omega"):
        InterfaceTransmissionMaker.from_potential("tersoff-si-ge", n_omega=100)


# -- names, serialisation, changes


def test_names_and_wiring():
    flow = coarse("tersoff-si-ge").make(crystal("Ge"), crystal("Si"))
    assert flow.name == "Si|Ge interface transmission"
    names = [job.name for job in flow.jobs]
    assert names == ["relax crystal Si", "relax crystal Ge", "junction Si|Ge", "transmission Si|Ge"]
    assert flow.output.uuid == flow.jobs[-1].uuid
    assert [job.output_schema for job in flow.jobs] == [CrystalDoc, CrystalDoc, JunctionDoc, InterfaceDoc]
    flow.append_name(" (test)")
    assert all(job.name.endswith(" (test)") for job in flow.jobs)


def custom() -> InterfaceTransmissionMaker:
    maker = coarse("tersoff-si-ge", temperatures=(77, 300.5), q_mesh=(8, 10))
    maker.junction_maker.settings = ConstructionSettings(fmax=1e-6, cutoff=4.5, extra_layers=1)
    maker.junction_maker.compare = ("hessian",)
    return maker


@pytest.mark.parametrize(
    "maker", [custom(), InterfaceTransmissionMaker(crystal_maker=None)], ids=["custom", "no relaxation"]
)
def test_maker_survives_json(maker):
    text = json.dumps(maker, cls=MontyEncoder)
    again = MontyDecoder().decode(text)
    assert again == maker
    assert isinstance(again.junction_maker.settings, ConstructionSettings)
    assert again.transmission_maker.q_mesh == maker.transmission_maker.q_mesh
    assert json.dumps(again, cls=MontyEncoder) == text


def test_flow_survives_json_and_gives_the_same_result(fresh: JobStore, silicon_doc: InterfaceDoc):
    flow = coarse("sw-si").make(crystal("Si"), crystal("Si"))
    again = MontyDecoder().decode(json.dumps(flow, cls=MontyEncoder))
    assert isinstance(again, Flow)
    assert (again.name, list(again.job_uuids)) == (flow.name, list(flow.job_uuids))
    run(again, fresh)
    found = document(again, fresh)
    assert found.interface_id == silicon_doc.interface_id
    assert found.value(300).value == pytest.approx(silicon_doc.value(300).value, rel=1e-10)


def test_makers_in_a_flow_can_be_changed():
    flow = coarse("tersoff-si-ge").make(crystal("Ge"), crystal("Si"))
    flow.update_maker_kwargs({"q_mesh": [12, 12]}, name_filter="transmission")
    flow.update_maker_kwargs({"fmax": 1e-5}, name_filter="relax crystal")
    flow.update_maker_kwargs({"settings": {"fmax": 1e-4, "cutoff": 4.0}}, name_filter="junction")
    relaxations, junction, transmission = flow.jobs[:2], flow.jobs[2], flow.jobs[3]
    assert transmission.maker.q_mesh == (12, 12)
    assert all(job.maker.fmax == 1e-5 for job in relaxations)
    assert junction.maker.settings == ConstructionSettings(fmax=1e-4, cutoff=4.0)
    with pytest.raises(ValueError, match="q_mesh"):
        flow.update_maker_kwargs({"q_mesh": [1, 1]}, name_filter="transmission")


def test_tags_reach_the_store(fresh: JobStore):
    flow = coarse("sw-si").make_from_junction(silicon_junction(), "Si", "Si")
    flow.update_metadata({"tags": ["screening", "batch 7"]})
    run(flow, fresh)
    tagged = list(fresh.query({"metadata.tags": "batch 7"}, properties=["name", "metadata"]))
    assert {t["name"] for t in tagged} == {"import junction Si|Si", "transmission Si|Si"}


# -- identities of results


def silicon_junction() -> Junction:
    return construction("Si", "Si", SW).assembly.junction


def test_the_same_calculation_is_the_same_document(store: JobStore, silicon_doc: InterfaceDoc):
    """Also from another cell of the same crystals."""
    conventional = crystal("Si").to_conventional()
    turned = crystal("Si")
    turned.apply_operation(SymmOp.from_rotation_and_translation(Rotation.random(random_state=1).as_matrix(), [0, 0, 0]))
    turned.translate_sites([0, 1], [0.2, 0.3, 0.4])
    flow = coarse("sw-si", temperatures=(150,)).make(conventional, turned)
    run(flow, store)
    again = document(flow, store)
    assert again.interface_id == silicon_doc.interface_id
    assert again.provenance.job_uuids != silicon_doc.provenance.job_uuids
    assert again.value(300).value == pytest.approx(silicon_doc.value(300).value, rel=1e-7)


def test_settings_that_change_the_result_change_the_method(silicon_doc: InterfaceDoc, store: JobStore):
    """Only the transmission is run again: its job takes the junction from the store."""
    junction = store.get_output(silicon_doc.provenance.job_uuids[2], load=True)
    ids = {silicon_doc.method_id}
    variants = [
        {"q_mesh": (4, 6)},
        {"n_frequencies": 30},
        {"convergence_tolerance": 0.5},
        {"max_refinements": 1, "convergence_tolerance": 1.0},
        {"reference_temperature": 200.0},
    ]
    for options in variants:
        job = TransmissionMaker(**{**COARSE, **options}).make(junction)
        run(job, store)
        found = InterfaceDoc.model_validate(store.get_output(job.uuid, load=True))
        assert found.system_id == silicon_doc.system_id
        assert found.method_id not in ids, options
        assert found.interface_id != silicon_doc.interface_id
        ids.add(found.method_id)
    # what does not change the conductance does not
    job = TransmissionMaker(**{**COARSE, "resolve_modes": False, "temperatures": (300, 400), "name": "other"}).make(
        junction
    )
    run(job, store)
    assert store.get_output(job.uuid)["interface_id"] == silicon_doc.interface_id


def test_another_potential_is_another_method_for_the_same_system(silicon_doc: InterfaceDoc, store: JobStore):
    flow = coarse("tersoff-si-ge").make(crystal("Si"), crystal("Si"))
    run(flow, store)
    other = document(flow, store)
    assert other.system_id == silicon_doc.system_id
    assert other.method_id != silicon_doc.method_id
    assert other.value(300).value != pytest.approx(silicon_doc.value(300).value, rel=1e-3)


def test_crystals_taken_as_they_are(silicon_doc: InterfaceDoc, store: JobStore):
    """Another lattice constant gives another number: the method must tell."""
    maker = coarse("sw-si")
    maker.crystal_maker = None
    flow = maker.make(crystal("Si"), crystal("Si"))
    assert [job.name for job in flow.jobs] == ["junction Si|Si", "transmission Si|Si"]
    run(flow, store)
    found = document(flow, store)
    assert found.system_id == silicon_doc.system_id
    assert found.method_id != silicon_doc.method_id
    assert found.provenance.parameters["crystals"] == "as given"
    assert found.area == pytest.approx(5.431020511**2 / 2, rel=1e-6)


def test_equal_planes_and_bases_are_the_same_system():
    """(001) and (100), another basis of the same common cell; but not another turn, cell or plane."""

    def system(**options):
        interface = build_interface("Si", "Ge", **options)
        return sha256_of(interface_identity(interface, crystal("Si"), crystal("Ge")))

    default = system()
    assert default == system(substrate_miller=(1, 0, 0), film_miller=(0, -1, 0))
    wide = {"substrate_supercell": ((2, 0), (0, 1)), "film_supercell": ((2, 0), (0, 1))}
    again = {"substrate_supercell": ((2, 1), (0, 1)), "film_supercell": ((2, 1), (0, 1))}
    turned = {"substrate_supercell": ((1, 0), (0, 1)), "film_supercell": ((0, 1), (-1, 0))}
    back = {"substrate_supercell": ((1, 0), (0, 1)), "film_supercell": ((-1, 0), (0, -1))}
    assert system(**wide) == system(**again)
    # half a turn is a symmetry of the plane
    assert system(**back) == default
    different = [
        default,
        system(**wide),
        system(**turned),
        system(supercell=2),
        system(substrate_miller=(1, 1, 1), film_miller=(1, 1, 1)),
        system(film_termination=1),
    ]
    assert len(set(different)) == len(different)
    # documents written before there were other matches keep their identity
    content = interface_identity(build_interface("Si", "Ge"), crystal("Si"), crystal("Ge"))
    assert "match" not in content
    assert content["substrate_miller"] == [0, 0, 1]


def test_a_mismatched_pair_from_end_to_end(fresh: JobStore):
    """Three cells of Si(001) on two of Ge(110)."""
    maker = coarse("tersoff-si-ge", q_mesh=(2, 2), n_frequencies=12, temperatures=(300,))
    maker.junction_maker.settings = ConstructionSettings(fmax=1e-4, mismatch_tolerance=3e-2)
    flow = maker.make(crystal("Ge"), crystal("Si"), film_miller=(1, 1, 0))
    run(MontyDecoder().decode(json.dumps(flow, cls=MontyEncoder)), fresh)
    found = document(flow, fresh)
    assert found.label == "Si(001)|Ge(110)"
    assert found.match["substrate"] == [[1, 0], [0, 3]]
    assert found.match["film"] == [[1, 0], [0, 2]]
    assert found.match["area"] == pytest.approx(found.area, rel=1e-6)
    assert max(map(abs, found.match["film_strain"])) < 0.05
    assert found.contacts == [
        "Si(001) plane 1 (Si) | Ge(110) plane 0 (Ge2)",
        "Ge(110) plane 0 (Ge2) | Si(001) plane 0 (Si)",
    ]
    assert found.system["match"] == [list(row) for row in found.match["canonical"]]
    n_left, _, n_right = store_atoms(found)
    assert (n_left % 3, n_right % 2) == (0, 0)
    assert 100 < found.value(300).value < 350
    assert found.transmission_checks.conservation_over_bound < 1
    # one pair of planes as the other's lead: never more than either carries
    spectrum = found.transmission_spectrum()
    assert np.all(spectrum.transmission <= np.minimum(spectrum.modes_left, spectrum.modes_right) + 1e-9)


def store_atoms(doc: InterfaceDoc) -> list[int]:
    junction = doc.junction()
    return [junction.left.n_atoms, junction.device.n_atoms, junction.right.n_atoms]


def test_options_of_the_common_cell_reach_the_job():
    maker = InterfaceTransmissionMaker.from_potential("tersoff-si-ge")
    match = find_matches("Si", "Ge", max_area=20)[1]
    flow = maker.make(crystal("Ge"), crystal("Si"), match=match, max_area=77)
    options = flow.jobs[2].function_kwargs
    assert options["film_supercell"] == [list(row) for row in match.film]
    assert options["max_area"] == 77.0
    assert "supercell" not in options
    plain = maker.make(crystal("Ge"), crystal("Si")).jobs[2].function_kwargs
    assert not {"max_area", "supercell", "film_supercell", "match"} & set(plain)
    with pytest.raises(StructureError, match="not both"):
        maker.make(crystal("Ge"), crystal("Si"), match=match, film_supercell=2)


def test_a_homogeneous_crystal_has_no_interface_resistance(silicon_doc: InterfaceDoc):
    for t in (300,):
        landauer, corrected = silicon_doc.value(t), silicon_doc.value(t, "nonequilibrium")
        assert landauer.value > 400
        assert (corrected.value, corrected.resistance, corrected.error) == (None, 0.0, None)
        half = silicon_doc.value(t, method="diffuse_mismatch")
        assert half.value == pytest.approx(0.5 * landauer.value, rel=1e-9)
    np.testing.assert_allclose(silicon_doc.spectrum["transmission"], silicon_doc.spectrum["modes_left"], atol=1e-9)


# -- a junction handed in


def test_from_a_file(tmp_path: Path, fresh: JobStore):
    junction = silicon_junction()
    path = junction.to_npz(tmp_path / "si.npz")
    maker = coarse("sw-si")
    flow = maker.make_from_junction(path, "Si", "Si", label="Si|Si, mine")
    assert flow.name == "Si|Si interface transmission"
    path.unlink()  # read at once
    run(flow, fresh)
    found = document(flow, fresh)
    expected = solve_transmission(junction, COARSE["q_mesh"], COARSE["n_frequencies"], n_workers=1)
    assert found.value(300).value == pytest.approx(float(expected.conductance(300)[0]), rel=1e-12)
    assert found.label == "Si|Si, mine"
    assert found.structure is None
    assert found.stacking is None
    assert found.junction_checks.sum_rule == pytest.approx(junction.sum_rule_error())
    assert found.junction_checks.mismatch_left == 0.0
    assert found.provenance.potential is None
    assert [t.parameter for t in found.convergence] == ["q_mesh", "n_frequencies"]
    same = maker.make_from_junction(junction, "Si", "Si")
    run(same, fresh)
    assert document(same, fresh).interface_id == found.interface_id


def test_a_file_that_holds_no_junction(tmp_path: Path):
    maker = coarse("sw-si")
    with pytest.raises(FileNotFoundError, match="no junction file"):
        maker.make_from_junction(tmp_path / "missing.npz", "Si", "Si")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(JunctionError, match="not a junction file"):
        maker.make_from_junction(tmp_path / "text.npz", "Si", "Si")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(JunctionError, match=r"L_cell.* missing"):
        maker.make_from_junction(tmp_path / "other.npz", "Si", "Si")


def test_an_unstable_lead_is_refused_at_once():
    good = silicon_junction()
    left = dataclasses.replace(good.left, phi=-good.left.phi)
    with pytest.raises(UnstableLeadError, match=r"left lead is unstable: frequency -\d"):
        coarse("sw-si").make_from_junction(dataclasses.replace(good, left=left), "Si", "Si")


# -- failures


def no_interface(store: JobStore) -> bool:
    return store.count({"output.doc_type": "InterfaceDoc"}) == 0


def test_a_crystal_that_does_not_relax_stops_the_flow(fresh: JobStore):
    maker = coarse("tersoff-si-ge")
    maker.crystal_maker = CrystalRelaxMaker(potential="tersoff-si-ge", max_steps=1)
    flow = maker.make(crystal("Ge"), crystal("Si"))
    responses = run_locally(flow, store=fresh, log=False, raise_immediately=False)
    assert responses == {}
    assert fresh.count({}) == 0


def test_a_junction_that_does_not_relax_stops_the_flow(fresh: JobStore):
    maker = coarse("tersoff-si-ge")
    maker.junction_maker.settings = ConstructionSettings(max_relaxation_steps=1)
    flow = maker.make(crystal("Ge"), crystal("Si"))
    responses = run_locally(flow, store=fresh, log=False, raise_immediately=False)
    assert set(responses) == {job.uuid for job in flow.jobs[:2]}
    assert no_interface(fresh)
    assert fresh.count({"output.doc_type": "JunctionDoc"}) == 0
    assert fresh.count({"output.doc_type": "CrystalDoc"}) == 2


def test_a_failed_flow_goes_on_at_its_unfinished_jobs(fresh: JobStore, monkeypatch: pytest.MonkeyPatch):
    maker = coarse("sw-si", n_workers=None)
    flow = maker.make(crystal("Si"), crystal("Si"))
    stored = json.dumps(flow, cls=MontyEncoder)  # what a user keeps, or a workflow engine
    # the last job dies, as it would of too little memory
    with monkeypatch.context() as patch:

        def dies(*_arguments, **_options):
            raise MemoryError

        patch.setattr("thermal_flows.jobs.transmission.solve_transmission", dies)
        responses = run_locally(flow, store=fresh, log=False, raise_immediately=False)
    assert len(responses) == 3
    assert no_interface(fresh)
    finished = {job["uuid"]: job["completed_at"] for job in fresh.query({}, properties=["uuid", "completed_at"])}
    monkeypatch.setenv("THERMAL_FLOWS_N_WORKERS", "1")

    again = unfinished(MontyDecoder().decode(stored), fresh)
    assert [job.name for job in again.jobs] == ["transmission Si|Si"]
    run(again, fresh, allow_external_references=True)
    assert document(again, fresh).value(300).value > 500
    after = {job["uuid"]: job["completed_at"] for job in fresh.query({}, properties=["uuid", "completed_at"])}
    assert {uuid: after[uuid] for uuid in finished} == finished
    assert unfinished(flow, fresh) is None


# -- a calculator of the user's


def test_any_ase_calculator_by_its_factory(fresh: JobStore):
    maker = coarse("ase.calculators.emt:EMT")
    maker.junction_maker.settings = ConstructionSettings(cutoff=3.0, mismatch_tolerance=1e-2)
    flow = maker.make(crystal("Cu"), crystal("Cu"))
    run(flow, fresh)
    found = document(flow, fresh)
    assert found.provenance.potential["spec"] == "ase.calculators.emt:EMT"
    assert len(found.provenance.potential["sha256"]) == 64
    assert found.force_constants["method"] == "finite_differences"
    assert found.junction_checks.neglected > 1e-3
    assert sum("Cu holds metals only" in w for w in found.warnings) == 1
    assert found.polarity["film"]["metal_like"]
    # one crystal: nearly every mode passes, as far as so short a cutoff lets crystal and junction agree
    spectrum = found.transmission_spectrum()
    assert spectrum.conductance(300)[0] == pytest.approx(spectrum.ballistic_conductance(300)[0, 0], rel=1e-2)


def test_makers_can_stand_alone(fresh: JobStore):
    relax = CrystalRelaxMaker(potential="sw-si").make(crystal("Si"))
    run(relax, fresh)
    found = CrystalDoc.model_validate(fresh.get_output(relax.uuid))
    assert found.structure.lattice.abc[0] * np.sqrt(2) == pytest.approx(5.431, abs=1e-3)
    assert found.energy_per_atom == pytest.approx(-4.3366, abs=1e-3)  # cohesive energy of the potential
    assert found.max_force <= 1e-7
    assert found.provenance.job_uuids == [relax.uuid]
    assert JunctionMaker().make(found.structure, found.structure).output_schema is JunctionDoc

"""The command line on real input: a coarse Si|Ge, its database, figures, errors and exit codes."""

import json
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from thermal_flows import __version__
from thermal_flows.cli import main
from thermal_flows.database import ThermalDatabase
from thermal_flows.doctor import chain_self_test, examine
from thermal_flows.figures import plot_conductance, plot_interface
from thermal_flows.report import render
from thermal_flows.schemas import InterfaceDoc

COARSE = ["--q-mesh", "4", "4", "--n-frequencies", "40", "--temperature", "100", "300", "--no-comparisons", "--quiet"]


@pytest.fixture(scope="module")
def result(tmp_path_factory, request):
    """One coarse run through a process of its own: what a user types, with the database and the printed JSON."""
    folder = tmp_path_factory.mktemp("cli")
    command = [sys.executable, "-m", "thermal_flows.cli", "itc", "Si", "Ge", *COARSE, "--json", "--figure", "fig.png"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.fixture(scope="module")
def document(result):
    folder, _ = result
    with ThermalDatabase(folder / "results.db") as db:
        return db.interfaces.query_one({})


def value(summary, definition, statistics, method, temperature):
    found = [
        c["value"]
        for c in summary["conductance_MW_m2K"]
        if (c["definition"], c["statistics"], c["method"], c["temperature_K"])
        == (definition, statistics, method, temperature)
    ]
    assert len(found) == 1
    return found[0]


def test_json_result_is_physical_and_in_the_database(result, document):
    folder, summary = result
    assert summary["label"] == "Si(001)|Ge(001)"
    assert summary["interface_id"] == document["interface_id"]
    landauer = value(summary, "landauer", "quantum", "mode_matching", 300.0)
    assert value(summary, "landauer", "quantum", "mode_matching", 100.0) < landauer
    assert landauer < value(summary, "landauer", "classical", "mode_matching", 300.0)
    assert landauer < value(summary, "nonequilibrium", "quantum", "mode_matching", 300.0)
    for entry in summary["conductance_MW_m2K"]:
        assert entry["resistance_1e-9_m2K_W"] == pytest.approx(1e3 / entry["value"], rel=1e-12)
    assert summary["checks"]["transmission_checks"]["conservation_over_bound"] < 1
    assert summary["checks"]["junction_checks"]["mismatch_right"] < 1e-5
    assert (folder / "fig.png").stat().st_size > 10_000
    assert sqlite3.connect(folder / "results.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_refinement_brings_a_coarse_mesh_near_the_converged_value(result):
    # 316.1 MW/m2K is the quickstart's value at 40 x 40 x 200; the error bar must cover the difference
    _, summary = result
    entry = next(
        c for c in summary["conductance_MW_m2K"] if c["temperature_K"] == 300.0 and c["definition"] == "landauer"
    )
    assert abs(entry["value"] - 316.1) < entry["error"] + 1


def test_db_list_and_query(result, capsys):
    folder, summary = result
    file = str(folder / "results.db")
    assert main(["db", "list", file]) == 0
    assert "Si(001)|Ge(001)" in capsys.readouterr().out
    hit = '{"conductance": {"$elemMatch": {"temperature": 300, "value": {"$gt": 100}}}}'
    assert main(["db", "query", file, hit, "--json"]) == 0
    docs = json.loads(capsys.readouterr().out)
    assert [d["interface_id"] for d in docs] == [summary["interface_id"]]
    assert main(["db", "query", file, hit.replace("100", "1e6")]) == 0
    assert "0 interfaces" in capsys.readouterr().out
    assert main(["db", "query", file, "{film"]) == 1
    assert "criteria must be JSON" in capsys.readouterr().err


def test_text_report_states_definitions_units_checks_and_timings(document):
    text = render(document)
    for part in (
        "MW/m2K",
        "1e-9 m2K/W",
        "two reservoirs",
        "nonequilibrium",
        "diffuse mismatch",
        "|T+R-1|",
        "Wall times (s)",
    ):
        assert part in text
    assert "NOT within" in text or "within 1 %" in text


def test_figures_show_what_the_document_says(document, tmp_path):
    live = InterfaceDoc.from_database(document)
    figure = plot_interface(document)
    total = live.value(300.0).value
    assert figure.data["cumulative_landauer_MW_m2K"][-1] == pytest.approx(total, rel=1e-9)
    assert figure.data["cumulative_diffuse_mismatch_MW_m2K"][-1] == pytest.approx(
        live.value(300.0, method="diffuse_mismatch").value, rel=1e-9
    )
    for side in ("left", "right"):
        f, states = figure.data[f"{side}_frequency_THz"], figure.data[f"{side}_states_per_THz_atom"]
        assert np.trapezoid(states, f) == pytest.approx(3.0, rel=0.01)
    assert np.all(
        figure.data["transmission"] <= np.minimum(figure.data["modes_left"], figure.data["modes_right"]) + 1e-9
    )
    by_temperature = plot_conductance(live)
    assert by_temperature.data["mode_matching_landauer_quantum"][-1] == pytest.approx(total)
    assert by_temperature.save(tmp_path / "g.svg").read_text().startswith("<?xml")
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_dry_run_states_the_cost_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["itc", "Si", "Ge", "--dry-run", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert cost["principal_layers"] == [2, 2]
    assert cost["supercell_atoms"] > cost["junction_atoms"] > cost["device_atoms"] > 4
    assert cost["memory_bytes"] > 0
    assert cost["force_constant_seconds"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["itc", "Si", "Al"], "no built-in potential knows Al, Si"),
        (["itc", "Si", "Si"], "several built-in potentials know Si"),
        (["itc", "Si", "Nosuch"], "unknown crystal"),
        (["itc", "broken.cif", "Ge"], "broken.cif is not a structure"),
        (["itc", "Cu", "Ag", "--potential", "sw-si"], "sw-si"),
        (["itc", "Cu", "Ag", "--max-area", "5"], "max_strain"),
        (["itc", "Si", "Ge", "--potential", "nosuch"], "Known names"),
        (["itc", "Si", "Ge", "--potential", "nosuch:calculator"], "no importable module"),
        (["itc", "Si", "Ge", "--temperature", "0"], "positive"),
        (["itc", "Si", "Ge", "--q-mesh", "0", "4"], "q_mesh"),
        (["itc", "Si", "Ge", "--n-frequencies", "0"], "n_frequencies"),
        (["itc", "Si", "Ge", "--substrate-miller", "0", "0", "0"], "Miller"),
        (["itc", "Si", "Ge", "--database", "nodatabase.db"], "not a SQLite database"),
        (["itc", "Si", "Ge", "--database", "nofolder/results.db"], "does not exist"),
        (["itc", "Si", "Ge", "--figure", "nofolder/figure.png"], "does not exist"),
        (["itc", "Si", "Ge", "--figure", "figure.nosuch"], "suffix"),
        (["itc", "Si", "Ge", "--dry-run", "--q-mesh", "0", "4"], "q_mesh"),
        (["itc", "Si", "Ge", "--dry-run", "--temperature", "-1"], "positive"),
        (["quickstart", "--output", "broken.cif"], "give another one with --output"),
        (["db", "list", "absent.db"], "there is no database file"),
    ],
)
def test_bad_input_is_explained_and_leaves_nothing_behind(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.cif").write_text("not a cif\n")
    (tmp_path / "nodatabase.db").write_text("not a database\n")
    before = sorted(p.name for p in tmp_path.iterdir())
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert (tmp_path / "nodatabase.db").read_text() == "not a database\n"


def test_matches_are_listed_with_the_options_that_choose_them(capsys):
    assert main(["itc", "Al", "Cu", "--matches", "--max-area", "90"]) == 0
    text = capsys.readouterr().out
    assert "32.8 A^2 (4:5 cells, film turned 26.57 deg) at 0.21 %" in text
    options = text.split("at 0.21 %:")[1].splitlines()[0].split()
    assert options[:5] == ["--substrate-supercell", "2", "0", "0", "2"]
    assert "0: Al, next plane 2.025 A above, 2.025 A below" in text
    assert main(["itc", "Al", "Cu", "--matches", "--max-area", "90", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert round(listed["matches"][0]["area"], 1) == 32.8
    assert len(listed["terminations"]["substrate"]) == 1
    assert main(["itc", "Al", "Cu", "--matches", "--max-area", "5"]) == 0
    assert "none: raise --max-area or --max-strain" in capsys.readouterr().out


def test_supercells_and_what_is_left_out_in_a_dry_run(capsys, tmp_path):
    arguments = ["itc", "SiC", "SiC", "--potential", "tersoff-si-c", "--dry-run", "--json", "--q-mesh", "4", "4"]
    plain, double = [], []
    for extra, found in (([], plain), (["--supercell", "2", "1"], double)):
        assert main([*arguments, *extra]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert double[0]["junction_atoms"] == 2 * plain[0]["junction_atoms"]
    assert double[0]["principal_layers"] == [2 * n for n in plain[0]["principal_layers"]]
    assert ["SiC is polar" in note for note in plain[0]["notes"]] == [True]
    born = tmp_path / "BORN"
    born.write_text("14.4\n6.5 0 0 0 6.5 0 0 0 6.5\n2.7 0 0 0 2.7 0 0 0 2.7\n-2.7 0 0 0 -2.7 0 0 0 -2.7\n")
    assert main([*arguments, "--film-born", str(born), "--substrate-born", str(born)]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert "rough" not in note
    assert main([*arguments, "--supercell", "1", "2", "3"]) == 1
    assert "--supercell takes one, two or four whole numbers, not 3" in capsys.readouterr().err


def test_doctor_knows_its_answer(capsys):
    assert chain_self_test() < 1e-12
    assert all(f.good for f in examine())
    assert main(["doctor"]) == 0
    assert __version__ in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == f"thermal-flows {__version__}"

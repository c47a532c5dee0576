"""Settings: variables before the file before the defaults; what is not known is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from thermal_flows.settings import CONFIG_FILE, settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine reaches these tests."""
    import os

    for name in os.environ:
        if name.startswith("THERMAL_FLOWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def in_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    monkeypatch.setenv(CONFIG_FILE, str(path))
    return path


def test_defaults():
    found = settings()
    assert (found.database, found.data, found.n_workers) == (None, None, None)


def test_file_in_the_home_folder(tmp_path):
    (tmp_path / ".thermal_flows.yaml").write_text("database: /results/all.db\nn_workers: 3\n")
    assert (settings().database, settings().n_workers) == ("/results/all.db", 3)


def test_variables_win_over_the_file(tmp_path, monkeypatch):
    in_file(tmp_path, monkeypatch, "database: a.db\nn_workers: 3\n")
    monkeypatch.setenv("THERMAL_FLOWS_N_WORKERS", "2")
    assert (settings().database, settings().n_workers) == ("a.db", 2)


def test_an_empty_file_sets_nothing(tmp_path, monkeypatch):
    in_file(tmp_path, monkeypatch, "# nothing yet\n")
    assert settings().database is None


def test_an_unknown_variable_is_refused(monkeypatch):
    monkeypatch.setenv("THERMAL_FLOWS_WORKERS", "2")
    with pytest.raises(
        ValueError, match=r"unknown settings in the environment: THERMAL_FLOWS_WORKERS; known are .*N_WORKERS"
    ):
        settings()


def test_an_unknown_key_in_the_file_is_refused(tmp_path, monkeypatch):
    in_file(tmp_path, monkeypatch, "databse: results.db\n")
    with pytest.raises(ValidationError, match="databse"):
        settings()


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5"])
def test_values_that_do_not_fit(monkeypatch, value):
    monkeypatch.setenv("THERMAL_FLOWS_N_WORKERS", value)
    with pytest.raises(ValidationError, match="n_workers"):
        settings()


@pytest.mark.parametrize("text", ["- database\n", "just a sentence\n", "{database: [\n"])
def test_a_file_that_is_no_list_of_settings(tmp_path, monkeypatch, text):
    path = in_file(tmp_path, monkeypatch, text)
    with pytest.raises(ValueError, match=f"settings file {path} must hold lines of the form 'key: value'"):
        settings()


def test_a_file_that_is_named_must_exist(tmp_path, monkeypatch):
    monkeypatch.setenv(CONFIG_FILE, str(tmp_path / "typo.yaml"))
    with pytest.raises(ValueError, match=r"THERMAL_FLOWS_CONFIG_FILE names .*typo\.yaml', which is not a file"):
        settings()

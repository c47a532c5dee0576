"""Shared by all tests: hypothesis profiles, slow tests on request, and reference data where there are some."""

import os
from pathlib import Path

# tests run in as many processes as there are cores: one thread each (read when numpy and torch are imported)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="also run tests that take more than a minute")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--run-slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --run-slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def find_reference_data(name: str) -> Path | None:
    """The folder ``name`` of reference data: in THERMAL_FLOWS_DATA, else in a ``data`` folder beside the repository."""
    given = os.environ.get("THERMAL_FLOWS_DATA")
    folders = [Path(given)] if given else sorted(Path(__file__).resolve().parents[2].glob("*/data"))
    return next((folder / name for folder in folders if (folder / name).is_dir()), None)


@pytest.fixture(scope="session")
def junction_data() -> Path:
    """Reference junctions with their expected results; the test is skipped where there are none."""
    folder = find_reference_data("junctions")
    if folder is None:
        pytest.skip("no reference junctions: set THERMAL_FLOWS_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def mace_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a small MACE for Si and Ge, trained in this session."""
    from mace_training import save, trained

    return save(trained(), tmp_path_factory.mktemp("mace") / "si_ge.model")

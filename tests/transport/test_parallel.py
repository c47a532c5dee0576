"""The same result, to the last bit, from any number of threads or processes."""

import os
import subprocess
import sys
from functools import partial

import pytest

from thermal_flows.transport import TransportError, diffuse_mismatch, solve_transmission
from thermal_flows.transport.spectra.parallel import share_out

from .junctions import Recipe, fcc_junction


def power(base: int, k: int) -> int:
    return base**k


def fails_at(where: int, k: int) -> int:
    if k == where:
        raise TransportError(f"number {k}")
    return k


def process_number(_k: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("executor", ["threads", "processes"])
@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_results_come_in_order_and_errors_come_through(executor, n_workers):
    steps = []
    found = list(share_out(partial(power, 3), 7, n_workers, executor, lambda done, total: steps.append((done, total))))
    assert found == [3**k for k in range(7)]
    assert steps == [(k, 7) for k in range(1, 8)]
    for where in (0, 4):
        with pytest.raises(TransportError, match=f"number {where}"):
            list(share_out(partial(fails_at, where), 7, n_workers, executor))


def test_processes_are_processes():
    assert set(share_out(process_number, 5, 2, "threads")) == {os.getpid()}
    assert len(set(share_out(process_number, 5, 2, "processes")) - {os.getpid()}) >= 1


@pytest.mark.parametrize("options", [{"n_workers": 0}, {"n_workers": 1.5}, {"executor": "cluster"}])
def test_unusable_workers(options):
    with pytest.raises(TransportError, match=next(iter(options))):
        share_out(process_number, 3, **options)


@pytest.mark.parametrize("method", ["mode_matching", "green_function"])
@pytest.mark.parametrize("build", [fcc_junction, Recipe(3, 2, 3, 1, 2, 2, oblique=True).build], ids=["real", "complex"])
def test_same_bytes_for_one_two_and_four_processes(build, method):
    junction = build()

    def solved(n_workers: int, executor: str) -> tuple[bytes, bytes, bytes, object]:
        s = solve_transmission(junction, (5, 5), 40, method, n_workers=n_workers, executor=executor)
        return s.conductance([20.0, 300.0]).tobytes(), s.transmission.tobytes(), s.modes_left.tobytes(), s.checks

    alone = solved(1, "auto")
    for n_workers, executor in ((1, "processes"), (2, "processes"), (4, "processes"), (2, "threads"), (2, "auto")):
        assert solved(n_workers, executor) == alone


def test_same_bytes_of_mode_numbers():
    junction = Recipe(3, 2, 3, 1, 2, 2, oblique=True).build()
    found = [diffuse_mismatch(junction, (5, 5), 40, n_workers=n, executor="processes") for n in (1, 2, 4)]
    assert len({s.conductance([300.0]).tobytes() for s in found}) == 1


def test_a_script_needs_no_guard_for_processes(tmp_path):
    """Users write plain scripts: processes must not run them again."""
    junction = tmp_path / "junction.npz"
    fcc_junction().to_npz(junction)
    script = tmp_path / "script.py"
    script.write_text(
        "from thermal_flows.transport import Junction, solve_transmission\n"
        "print('once')\n"
        f"s = solve_transmission(Junction.from_npz({str(junction)!r}), (4, 4), 10, n_workers=2, executor='processes')\n"
        "print(s.conductance([300.0])[0] > 0)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["once", "True"]
    assert done.stderr == ""

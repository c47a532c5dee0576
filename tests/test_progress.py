"""Progress: a bar on a terminal, plain lines elsewhere, silence in a library."""

import io

import pytest

from thermal_flows.progress import Reporter, StreamReporter, reporter, reporting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_library_is_silent(capsys):
    assert type(reporter()) is Reporter
    reporter().stage("something long")
    reporter().progress(1, 2)
    assert capsys.readouterr() == ("", "")


def test_plain_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    found = StreamReporter(stream)
    found.stage("force constants")
    for done in range(1, 101):
        found.progress(done, 100)
    found.stage("transmission")
    lines = stream.getvalue().splitlines()
    assert [line.split("] ")[1] for line in lines] == ["force constants", "transmission"]
    assert all(line.startswith("[ ") and " s] " in line for line in lines)
    assert "\r" not in stream.getvalue()


def test_a_bar_with_the_time_left_on_a_terminal(monkeypatch):
    clock = iter([0.0, 10.0, 20.0, 20.1, 30.0, 40.0])
    monkeypatch.setattr("thermal_flows.progress.time.monotonic", lambda: next(clock))
    stream = Terminal()
    found = StreamReporter(stream)
    found.stage("force constants")  # begins at 10 s
    found.progress(25, 100)  # 10 s for a quarter: 30 s left
    found.progress(26, 100)  # too soon to be worth a line
    found.progress(50, 100)
    found.progress(100, 100)
    text = stream.getvalue()
    assert "25/100   30.0 s left" in text
    assert "26/100" not in text
    assert "50/100   20.0 s left" in text
    assert text.count("#") == 6 + 12 + 24
    assert text.endswith("\r\x1b[2K")


def test_nothing_to_do_is_no_division_by_zero():
    stream = Terminal()
    StreamReporter(stream).progress(0, 0)
    assert "0/0" in stream.getvalue()


def test_reporting_is_undone_also_after_an_error():
    before, loud = reporter(), StreamReporter(io.StringIO())
    with pytest.raises(RuntimeError, match="stop"), reporting(loud) as inside:
        assert reporter() is inside is loud
        raise RuntimeError("stop")
    assert reporter() is before

"""Progress of long calculations: a bar with the time left on a terminal, plain lines elsewhere, silence in a library."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Reporter:
    """Says what is going on. The base class keeps quiet."""

    def stage(self, message: str) -> None:
        """A new stage begins."""

    def progress(self, done: int, total: int) -> None:
        """``done`` of ``total`` steps of the present stage are behind us."""


class StreamReporter(Reporter):
    """Writes to a stream: a line that is rewritten on a terminal, one line a stage elsewhere.

    Parameters
    ----------
    stream : text stream
        Standard error by default, so that standard output stays clean for results.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._began = time.monotonic()
        self._stage_began = self._began
        self._message = ""
        self._shown = 0.0

    def stage(self, message: str) -> None:
        """Start a stage."""
        now = time.monotonic()
        self._clear()
        self._message, self._stage_began, self._shown = message, now, now
        self._stream.write(f"[{now - self._began:6.1f} s] {message}\n")
        self._stream.flush()

    def progress(self, done: int, total: int) -> None:
        """Rewrite the line with the share done and the time left; only on a terminal."""
        now = time.monotonic()
        if not self._terminal or (done < total and now - self._shown < 0.2):
            return
        self._shown = now
        left = (now - self._stage_began) * (total - done) / max(done, 1)
        width = 24
        bar = "#" * round(width * done / max(total, 1))
        self._stream.write(f"\r  [{bar:<{width}}] {done}/{total}  {left:5.1f} s left")
        if done >= total:
            self._clear()
        self._stream.flush()

    def _clear(self) -> None:
        if self._terminal:
            self._stream.write("\r\x1b[2K")


_current: Reporter = Reporter()


def reporter() -> Reporter:
    """The reporter in use."""
    return _current


@contextmanager
def reporting(new: Reporter) -> Iterator[Reporter]:
    """Use another reporter inside a ``with`` block."""
    global _current  # noqa: PLW0603 - one process reports to one place
    old, _current = _current, new
    try:
        yield new
    finally:
        _current = old

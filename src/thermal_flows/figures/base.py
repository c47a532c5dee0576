"""A figure that carries the numbers it shows."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
"""Colours that stay apart for colour-blind readers (Okabe and Ito)."""


class DataFigure(Figure):
    """A matplotlib figure with ``data``, the arrays behind its curves by name.

    It shows itself in a notebook and needs no display.

    Attributes
    ----------
    data : dict of str to numpy.ndarray
        Names end in their unit.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(layout="constrained", **options)
        FigureCanvasAgg(self)
        self.data: dict[str, NDArray] = {}

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()

    def save(self, path: str | Path, dpi: int = 160) -> Path:
        """Write the figure to a file.

        Parameters
        ----------
        path : str or pathlib.Path
            The suffix decides the format (png, pdf, svg ...).
        dpi : int
            Dots per inch of pixel formats.

        Returns
        -------
        pathlib.Path
            The absolute path.

        Raises
        ------
        OSError, ValueError
            If the file cannot be written, or its format is not known.
        """
        target = Path(path).expanduser().resolve()
        self.savefig(target, dpi=dpi)
        return target

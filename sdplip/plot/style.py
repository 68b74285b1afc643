"""What all figures share: colours, dashes and marks that can be told apart in grey, and files written whole."""

import os
from io import BytesIO
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sdplip.verifier.show import printable
from sdplip.writing import write_bytes

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours without yellow and black, which is the optimum's: distinct for every kind of colour blindness."""

DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = (
    (0, (6, 2)),
    (0, (2, 1)),
    (0, (6, 2, 1, 2)),
    (0, (1, 2)),
    (0, (10, 3)),
    (0, (4, 1, 1, 1, 1, 1)),
)
"""One line style a colour, so that the figure also reads in grey."""

MARKS = ("o", "s", "^", "D", "v", "P")
"""One mark a colour, where the line style says something else."""

INK = "#222222"
"""Of text, axes and the optimum."""

PALE = "#9A9A9A"
"""Of what stands behind: grids, bars of reference."""

METADATA = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
"""What would differ from one writing to the next."""


class Picture(Figure):
    """A figure that notebooks show, without pyplot."""

    def _repr_png_(self) -> bytes:
        drawn = BytesIO()
        self.savefig(drawn, format="png", dpi=100)
        return drawn.getvalue()


def blank(width: float, height: float) -> Picture:
    """An empty figure of that many inches that needs no display."""
    figure = Picture(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes the figure as .png, .pdf or .svg: whole or not at all, and the same bytes every time."""
    form, drawn = Path(path).suffix.lower().removeprefix("."), BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "sdplip"}):
        figure.savefig(drawn, format=form, dpi=150, metadata=METADATA.get(form))
    write_bytes(path, drawn.getvalue())


def short(name: str, length: int = 22) -> str:
    """The name, or its end where it is too long, as characters that are drawn as they are."""
    name = printable(name)
    name = name if len(name) <= length else "…" + name[1 - length :]
    return name.replace("$", r"\$")


def quiet(axes: Axes) -> None:
    """Two spines fewer, small labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=INK)

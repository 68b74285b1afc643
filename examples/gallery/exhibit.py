"""What the scripts of the gallery share: options, a figure with its thumbnail, and what is computed beside what is expected.

A script of this folder is one exhibit. It defines

    TOLERANCE = 1e-6                       how far a computed number may lie from the expected one
    def main(quick=False, out=None):       returns (computed, expected): one number each, or mappings from names to numbers

where `quick` is the reduced run of the test suite (a few CPU seconds), and `out` the folder that gets the figure, None for none.
Its last lines are

    if __name__ == "__main__":
        show(main, TOLERANCE)
"""

import argparse
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageColor, ImageOps

from sdplip.plot.style import INK, PALE
from sdplip.writing import write_bytes

PAPER = "#FBFAF6"
"""Opaque and light: black ink reads on it whatever the page behind is."""

LARGE, COLOURS = 80_000, 255
"""Bytes from which a picture gets a palette of so many colours."""

THUMB = (360, 240)
STYLE = {
    "figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER, "font.size": 9.5, "axes.titlesize": 10,
    "axes.titlelocation": "left", "axes.labelsize": 9.5, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "legend.fontsize": 8.5,
    "legend.frameon": False, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "axes.titlecolor": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.6,
    "grid.color": PALE, "grid.alpha": 0.3, "axes.axisbelow": True, "image.cmap": "cividis",
}  # fmt: skip

Numbers = float | Mapping[str, float]
Main = Callable[[bool, Path | None], tuple[Numbers, Numbers]]


def panels(columns: int = 1, rows: int = 1, *, size: tuple[float, float] = (8.0, 3.6), **ratios):
    """A figure with its `rows * columns` axes, row by row; `ratios` as for `Figure.subplots`. `show` sets the style."""
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False, **ratios).flat)


def bare(axes: Axes) -> None:
    """Neither ticks nor frame: for pictures."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def save(figure: Figure, out: Path, script: str, thumb: Axes | None = None) -> Path:
    """Writes `out/NAME.png`, where `script` is the `__file__` of the caller; and `out/thumbs/NAME.png` if that folder exists.

    Args:
        thumb: the axes whose inside is the thumbnail; the whole figure if not said.
    """
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    picture = Image.open(drawn).convert("RGB")
    path = out / f"{Path(script).stem}.png"
    write_bytes(path, _small(picture))
    if (out / "thumbs").is_dir():
        if thumb is not None:
            left, bottom, right, top = thumb.get_window_extent().extents
            picture = picture.crop(
                (int(left), int(picture.height - top), int(right), int(picture.height - bottom))
            )
        write_bytes(out / "thumbs" / path.name, _small(ImageOps.pad(picture, THUMB, color=PAPER), large=0))
    return path


def _small(picture: Image.Image, large: int = LARGE) -> bytes:
    """The picture as a PNG without a date, the same bytes every time; of few colours where it would be large."""
    written = BytesIO()
    picture.save(written, "png", optimize=True)
    if written.tell() > large:
        few = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        paper, palette = np.array(ImageColor.getrgb(PAPER)), np.reshape(few.getpalette() or [], (-1, 3))
        is_paper = (np.asarray(picture) == paper).all(-1)
        palette[np.unique(np.asarray(few)[is_paper])] = paper  # a palette holds means: paper stays as it is
        few.putpalette(palette.ravel().tolist())
        few.save(written := BytesIO(), "png", optimize=True)
    return written.getvalue()


def named(numbers: Numbers) -> dict[str, float]:
    return dict(numbers) if isinstance(numbers, Mapping) else {"number": numbers}


def agree(computed: Numbers, expected: Numbers, tolerance: float) -> bool:
    """Whether every expected number is computed, up to `tolerance`; a number that is missing or NaN disagrees."""
    found, wanted = named(computed), named(expected)
    return found.keys() == wanted.keys() and all(
        abs(found[name] - wanted[name]) <= tolerance for name in wanted
    )


def show(main: Main, tolerance: float) -> None:
    """The command line of a script: runs it, prints computed beside expected, says where the figure is and what it cost.

    Raises:
        SystemExit: with 1 where the two disagree.
    """
    parser = argparse.ArgumentParser(
        description=main.__globals__["__doc__"], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the reduced run of the tests, a few seconds")
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="FOLDER", help="where the figure goes (here)"
    )
    options = parser.parse_args()
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"`--out {options.out}` is a file. Name a folder.")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    start = time.process_time()
    with matplotlib.rc_context(STYLE):
        computed, expected = main(options.quick, options.out)
    for name, value in named(computed).items():
        print(f"{name}: {value:.7g} (expected {named(expected).get(name, np.nan):.7g}, up to {tolerance:g})")
    print(f"figure: {options.out / Path(main.__globals__['__file__']).stem}.png")
    print(f"CPU time: {time.process_time() - start:.0f} s")
    if not agree(computed, expected, tolerance):
        raise SystemExit("Computed and expected disagree.")

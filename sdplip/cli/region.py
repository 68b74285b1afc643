"""`--ball CENTER,RADIUS` and `--box LOWER,UPPER` as regions of a network's input; both together are what they have in common."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import numpy as np

    from sdplip.kernel.regions import Ball, Box, Region
    from sdplip.network import Network


@dataclass(frozen=True)
class Given:
    """What stood on the command line: numbers or files for the ends, and which of the two options it was."""

    ball: bool
    parts: tuple[str, ...]

    def on(self, network: "Network") -> "Ball | Box":
        """The region of the inputs of `network`.

        Raises:
            UsageError: as many numbers as do not fit, a file that holds no vector.
            InvalidProblem: a radius below zero, ends that are not finite or out of order.
        """
        from sdplip.kernel.regions import Ball, Box

        n = network.inputs
        if self.ball:
            return Ball(_vector(self.parts[:-1], n, "--ball"), _number(self.parts[-1], "--ball"))
        return Box(_vector(self.parts[:1], n, "--box"), _vector(self.parts[1:], n, "--box"))


class RegionType(click.ParamType):
    """A comma-separated list whose parts are numbers or names of .npy files; kept as text until the network is known."""

    def __init__(self, ball: bool):
        self.ball, self.name = ball, "CENTER,RADIUS" if ball else "LOWER,UPPER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Given:
        parts = tuple(part.strip() for part in str(value).split(","))
        if len(parts) < 2 or (not self.ball and len(parts) != 2) or not all(parts):
            self.fail(
                f"{value!r} is not {self.name}: numbers or .npy files with commas between them.", param, ctx
            )
        return Given(self.ball, parts)


def given_region(
    ball: Given | None, box: Given | None, network: "Network", property_file: Path | None = None
) -> "Region | None":
    """The region of the options; None without them. A property is a box in a file."""
    from sdplip.kernel.regions import Ball, Box, Cut

    if box and property_file:
        raise click.UsageError("--box and --region both say which box. Use one of them.")
    inside, within = (given.on(network) if given else None for given in (ball, box))
    within = _property_box(property_file, network.inputs) if property_file else within
    if isinstance(inside, Ball) and isinstance(within, Box):
        return Cut(inside, within)
    return inside or within


def _property_box(file: Path, n: int) -> "Box":
    """The input box of a VNN-LIB property."""
    from sdplip.kernel.regions import Box
    from sdplip.network.read.vnnlib import read_input_box

    found = read_input_box(file)
    if len(found.lower) != n:
        raise click.UsageError(
            f"--region: `{file}` is about {len(found.lower)} inputs, but the network takes {n} numbers."
        )
    return Box(found.lower, found.upper)


def _vector(parts: tuple[str, ...], n: int, option: str) -> "np.ndarray":
    """One .npy file, one number for all coordinates, or a number each."""
    import numpy as np

    if len(parts) == 1 and parts[0].endswith(".npy"):
        from sdplip.weights.npy import arrays

        (vector,) = arrays(Path(parts[0])).values()
        if vector.dtype.kind not in "fiu" or vector.size != n:
            raise click.UsageError(
                f"{option}: `{parts[0]}` holds {vector.dtype} of shape {vector.shape}, but the network takes {n} numbers."
            )
        return vector.astype(np.float64).reshape(-1)
    numbers = [_number(part, option) for part in parts]
    if len(numbers) not in (1, n):
        raise click.UsageError(
            f"{option}: {len(numbers)} numbers, but the network takes {n}. Give one, {n}, or a .npy file."
        )
    return np.zeros(n) + np.array(numbers)


def _number(text: str, option: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise click.UsageError(f"{option}: {text!r} is no finite number.")
    return number

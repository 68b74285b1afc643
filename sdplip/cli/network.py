"""How a file becomes the network that `sdplip bound` bounds and `sdplip verify` proves again."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdplip.cli.options import GEOMETRY, Axes, Source

if TYPE_CHECKING:
    import numpy as np

    from sdplip.networks import Activation, GroupSort, Network
    from sdplip.weights import Weight

READING = (*GEOMETRY, "flatten", "average")
HOMOGENEOUS = ("relu", "abs", "identity")
"""Biases do not matter to a lower bound: the constant of the network is that of its limit far out, which has none."""


@dataclass(frozen=True)
class NetworkSource:
    """Which file is which network, and what the caller says about its activations (None: nothing) and its images.

    `reading` holds what the options of `READING` say about kernels and the images before the first matrix.
    """

    file: Path
    layers: tuple[str, ...] = ()
    transpose: bool = False
    activation: str | None = None
    slopes: tuple[float, float] | None = None
    reading: dict[str, Any] = field(default_factory=dict)

    @property
    def is_onnx(self) -> bool:
        """Whether the file holds its own activations."""
        from sdplip.weights.sniff import sniff

        return sniff(self.file) == "onnx"

    def network(self, *, biases: bool = False) -> "Network":
        """The network: of ONNX the graph as it stands, of other formats the matrices in file order with one activation between.

        `biases` says that they matter, as they do on a region: a file whose biases are not understood is refused then.

        Raises:
            SdplipError: unreadable file, a convolution, widths that do not fit, a vector that a chain of matrices leaves out.
        """
        from sdplip.networks import Activation, from_kernels

        reading = {name: _tuple(value) for name, value in self.reading.items()}
        geometry = {
            name: value for name, value in reading.items() if name in GEOMETRY and name != "image_size"
        }
        if self.is_onnx and reading:
            raise click.UsageError(f"{_options(reading)}: an ONNX graph says it itself. Drop the option.")
        weights = Source(self.file, self.layers, self.transpose, geometry).weights()
        if reading and all(weight.array.ndim == 2 for weight in weights):
            raise click.UsageError(f"{_options(reading)}: no layer is a convolution. Drop the option.")
        between = self._between()
        if self.is_onnx:
            from sdplip.networks.onnx import from_onnx

            if self.layers or self.activation or self.slopes:
                raise click.UsageError(
                    "--layer, --activation and --slopes: an ONNX graph says itself how its layers follow each other. Drop them."
                )
            return from_onnx(self.file)
        vectors = _vectors(self.file)
        if not self.layers:
            _refuse_left_out(vectors, self.file)
        found = None if self.layers else _biases(vectors, weights)
        unknown = found is None and self._may_have_biases(vectors)
        if unknown and biases:
            raise click.UsageError(
                "--ball and --box need the biases, but they are not understood: one vector of fitting length for each matrix,"
                " in their order, called `bias` or `b`, and all layers of the file. Save the network like that."
            )
        if unknown and isinstance(between, Activation) and between.kind not in HOMOGENEOUS:
            between = replace(between, kind="")
        size = _image_size(reading.get("image_size"), weights, self.file)
        named = {name: reading[name] for name in ("flatten", "average") if name in reading}
        return from_kernels(weights, size, between, found, **named)

    @property
    def text(self) -> str:
        """What stands between the matrices, for people."""
        if self.slopes:
            return f"slopes in [{self.slopes[0]:g}, {self.slopes[1]:g}]"
        return "the activations of the graph" if self.is_onnx else self.activation or "relu"

    def _between(self) -> "Activation | GroupSort":
        from sdplip.errors import InvalidWeight
        from sdplip.networks import SLOPES, Activation, between_layers

        if self.activation and self.slopes:
            raise click.UsageError("--activation and --slopes both say what the slopes are. Use one of them.")
        if self.slopes:
            return Activation(*self.slopes)
        kind = self.activation or "relu"
        try:
            return between_layers(kind)
        except InvalidWeight:
            raise click.UsageError(
                f"There is no activation `{kind}`. Use {', '.join(SLOPES)}, maxmin, maxmin-halves, groupsort:K, or"
                " `--slopes A,B` for any other."
            ) from None

    def _may_have_biases(self, vectors: "dict[str, np.ndarray]") -> bool:
        return bool(self.layers or vectors) or self.file.suffix.lower() == ".nnet"


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say how kernels and matrices are a network; the command receives them as one `reading`."""

    @functools.wraps(command)
    def with_reading(**rest: Any) -> Any:
        given = {name: rest.pop(name) for name in READING}
        reading = {name: value for name, value in given.items() if value is not None and value is not False}
        return command(reading=reading, **rest)  # 0 is a padding too

    options = (
        click.option(
            "--image-size", type=Axes(), help="Of the input, where the first layer is a convolution."
        ),
        click.option("--stride", type=Axes(), help="Of every convolution; so are the next four."),
        click.option("--padding", type=Axes(), help="Pixels on each side; default: same."),
        click.option("--padding-mode", metavar="MODE", help="zeros or circular."),
        click.option("--dilation", type=Axes()),
        click.option("--groups", type=int),
        click.option(
            "--flatten",
            type=click.Choice(["chw", "hwc", "whc"]),
            help="How the first matrix counts pixels: channels first (torch, default) or last.",
        ),
        click.option("--average", is_flag=True, help="The first matrix takes the mean of every channel."),
    )
    return functools.reduce(lambda f, option: option(f), reversed(options), with_reading)


def _image_size(given: "Any", weights: "tuple[Weight, ...]", file: Path) -> tuple[int, ...] | None:
    """The image size on each axis of the first kernel; None without kernels."""
    from sdplip.errors import InvalidWeight

    axes = weights[0].array.ndim - 2
    if given is None and axes:
        raise InvalidWeight(
            f"`{weights[0].name}` in `{file}` is a convolution kernel, and the bound of a whole network needs the size of its"
            f" image: pass `--image-size H,W`. Without it, `sdplip check {file}` bounds each layer for images of every size."
        )
    return (given,) * axes if isinstance(given, int) else given


def _options(reading: dict[str, Any]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in reading)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _vectors(file: Path) -> "dict[str, np.ndarray]":
    """The arrays of the file with at most one axis longer than 1 that are no layers."""
    from sdplip.weights.layers import is_vector
    from sdplip.weights.read import ARRAYS
    from sdplip.weights.sniff import sniff

    arrays = ARRAYS[sniff(file)](file)
    return {
        name: array
        for name, array in arrays.items()
        if array.dtype.kind in "fiu" and (array.ndim < 2 or is_vector(name, array.shape))
    }


def _refuse_left_out(vectors: "dict[str, np.ndarray]", file: Path) -> None:
    """A vector that multiplies would make the bound of the matrices alone wrong."""
    from sdplip.errors import InvalidWeight
    from sdplip.weights.layers import says_weight

    for name, vector in vectors.items():
        if says_weight(name) or re.search(
            r"norm|gamma|running_|moving_|num_batches|(^|[./])scale$", name.lower()
        ):
            raise InvalidWeight(
                f"`{name}` {vector.shape} in `{file}` is neither matrix nor bias, but part of a normalisation layer or a layer"
                " saved as a vector. Fold it into the matrices, or save it as a matrix (out, in); `--layer` chooses layers"
                " without it."
            )


def _biases(vectors: "dict[str, np.ndarray]", weights: "tuple[Weight, ...]") -> "list[np.ndarray] | None":
    """One bias for each weight, in file order, or None. They matter to `lower` only."""
    found = [v.reshape(-1) for name, v in vectors.items() if re.search(r"bias|(^|[._])b\d*$", name.lower())]
    fits = len(found) == len(weights) and all(
        v.shape == w.array.shape[:1] for v, w in zip(found, weights, strict=True)
    )
    return found if fits else None

"""How a file becomes the network that `sdplip bound` bounds and `sdplip verify` proves again."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdplip.cli.options import Axes

if TYPE_CHECKING:
    from sdplip.network.read.understood import Understood
    from sdplip.network.read.weights import Assumptions

KERNELS = ("stride", "padding", "padding_mode", "dilation", "groups")
"""What may be said of every kernel, or of one by its name."""


@dataclass(frozen=True)
class NetworkSource:
    """Which file is which network, and what the caller says about its activations (None: nothing) and its images.

    `reading` is what `reading_options` gives: the rest of `sdplip.network.read.weights.Assumptions`, as JSON data.
    """

    file: Path
    layers: tuple[str, ...] = ()
    transpose: bool | None = None
    activation: str | None = None
    slopes: tuple[float, float] | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    inputs: str | None = None
    outputs: str | None = None

    @property
    def assumptions(self) -> "Assumptions":
        """What was said about a file of weights."""
        from sdplip.network.read.weights import Assumptions

        if self.activation and self.slopes:
            raise click.UsageError("--activation and --slopes both say what the slopes are. Use one of them.")
        said = Assumptions.from_json(_grouped(self.reading))
        return replace(
            said,
            activation=self.activation or said.activation,
            slopes=self.slopes,
            transpose=self.transpose,
            layers=self.layers,
        )

    @property
    def kind(self) -> str:
        """ "network", "onnx", "weights" or "equilibrium"; layers that are named are bare weights."""
        from sdplip.network.read.file import kind_of

        kind = kind_of(self.file)
        return "weights" if kind == "equilibrium" and self.layers else kind

    def understood(self, *, biases: bool = False) -> "Understood":
        """The network of the file, and in words what was assumed: of ONNX the graph as it stands, of other formats matrices with
        one activation between.

        `biases` says that they matter, as they do on a region: a file whose biases are not understood is refused then.

        Raises:
            SdplipError: unreadable file, widths that do not fit, files that may hold another network.
        """
        from sdplip.network.read.file import read_file

        kind = self.kind
        if kind == "equilibrium":
            if self.transpose is not None or self.reading or self.slopes:
                raise click.UsageError(
                    "W, U, G are an equilibrium network, of which only --activation is to be said. Drop the other options, or name"
                    " layers with --layer."
                )
        elif kind != "weights":
            self._refuse_said()
        if kind != "onnx" and (self.inputs or self.outputs):
            raise click.UsageError("--input and --output name values of an ONNX graph. Drop them.")
        said: dict[str, Any] = {}
        if kind == "weights":
            said = self.assumptions.to_json()
        elif kind == "equilibrium" and self.activation:
            said = {"activation": self.activation}
        elif kind == "onnx":
            said = {"inputs": self.inputs, "outputs": self.outputs}
        return read_file(self.file, {"kind": kind, **said}, biases=biases)

    @property
    def text(self) -> str:
        """What stands between the matrices, for people."""
        if self.slopes:
            return f"slopes in [{self.slopes[0]!r}, {self.slopes[1]!r}]"
        if self.kind == "equilibrium":
            return f"an equilibrium with {self.activation or 'relu'}"
        return "the graph of the file" if self.kind != "weights" else self.assumptions.activation or "relu"

    def _refuse_said(self) -> None:
        """A graph says itself what the options would say."""
        from sdplip.errors import InvalidWeight

        if self.transpose is not None:
            raise InvalidWeight(
                f"`{self.file}` says which way its weights act, so they are (out, in) already and `transpose` would be wrong."
                " Drop it."
            )
        if self.reading:
            said = [key for key in self.reading if key != "geometry"]
            said += [key for moves in self.reading.get("geometry", {}).values() for key in moves]
            options = ", ".join(f"--{name.replace('_', '-')}" for name in dict.fromkeys(said))
            raise click.UsageError(f"{options}: an ONNX graph says it itself. Drop the option.")
        if self.layers or self.activation or self.slopes:
            raise click.UsageError(
                "--layer, --activation and --slopes: an ONNX graph says itself how its layers follow each other. Drop them."
            )


def _grouped(reading: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of every kernel, where it stands by itself."""
    general = {key: value for key, value in reading.items() if key in KERNELS}
    rest = {key: value for key, value in reading.items() if key not in KERNELS}
    if general:
        rest["geometry"] = {
            **rest.get("geometry", {}),
            "": {**general, **rest.get("geometry", {}).get("", {})},
        }
    return rest


class Said(click.ParamType):
    """`2` or `2,1` of every kernel, `conv1=2` of one."""

    def __init__(self, kind: click.ParamType):
        self.kind, self.name = kind, f"[LAYER=]{kind.name}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        layer, _, said = str(value).rpartition("=")
        return layer, self.kind.convert(said, param, ctx)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say how kernels and matrices are a network; the command receives them as one `reading`."""

    @functools.wraps(command)
    def with_reading(**rest: Any) -> Any:
        given = {name: rest.pop(name) for name in ("image_size", "flatten", "average", "ignore", "structure")}
        geometry: dict[str, dict[str, Any]] = {}
        for name in KERNELS:
            for layer, said in rest.pop(name):
                geometry.setdefault(layer, {})[name] = said
        reading = {name: value for name, value in {**given, "geometry": geometry}.items() if value}
        table = rest.pop("geometry")
        return command(reading=_with_table(table, reading) if table else reading, **rest)

    options = (
        click.option(
            "--image-size", type=Axes(), help="Of the input, where the first layer is a convolution."
        ),
        click.option(
            "--stride",
            type=Said(Axes()),
            multiple=True,
            help="Of every convolution, or of one; so are the next four.",
        ),
        click.option(
            "--padding", type=Said(Axes()), multiple=True, help="Pixels on each side; default: same."
        ),
        click.option(
            "--padding-mode",
            type=Said(click.STRING),
            multiple=True,
            metavar="MODE",
            help="zeros or circular.",
        ),
        click.option("--dilation", type=Said(Axes()), multiple=True),
        click.option("--groups", type=Said(click.INT), multiple=True),
        click.option(
            "--geometry",
            type=click.Path(path_type=Path),
            metavar="FILE.toml",
            help="All of these, pooling too, layer by layer.",
        ),
        click.option(
            "--flatten",
            type=click.Choice(["chw", "hwc", "whc"]),
            help="How the first matrix counts pixels: channels first (torch, default) or last.",
        ),
        click.option("--average", is_flag=True, help="The first matrix takes the mean of every channel."),
        click.option(
            "--structure",
            type=click.Choice(["chain", "residual", "resnet"]),
            metavar="HOW",
            help="Of names that speak of blocks: residual is x + f(x), resnet has an activation behind the sum, chain has none.",
        ),
        click.option(
            "--ignore", multiple=True, metavar="NAME", help="An array of the file that takes no part."
        ),
    )
    return functools.reduce(lambda f, option: option(f), reversed(options), with_reading)


def _with_table(table: Path, reading: dict[str, Any]) -> dict[str, Any]:
    from sdplip.network.read.weights import Assumptions, read_geometry

    return read_geometry(table, Assumptions.from_json(reading)).to_json()

"""Options that several commands share, each turned into one object of the library."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sdplip.reports import Method
    from sdplip.reports.optimum import Solver, Watch
    from sdplip.weights import Weight

SCALINGS = ("identity", "spectral", "aol", "perron", "multi_step", "min_trace")


class Axes(click.ParamType):
    """`28` or `28,28`: one whole number, or one for each image axis."""

    name = "N or N,N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            numbers = tuple(int(part) for part in str(value).lower().replace("x", ",").split(","))
        except ValueError:
            self.fail(f"{value!r} is not a whole number, or several with commas between them.", param, ctx)
        return numbers[0] if len(numbers) == 1 else numbers


class Finite(click.ParamType):
    """A nonnegative number: neither infinite nor NaN."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            self.fail(f"{value!r} is not a finite number of at least 0.", param, ctx)
        return number


class Output(click.ParamType):
    """A path with one of the given suffixes: nobody overwrites weights by a slip."""

    name = "file"

    def __init__(self, *suffixes: str):
        self.suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if path.suffix.lower() not in self.suffixes:
            self.fail(f"{str(value)!r} must end in {' or '.join(self.suffixes)}.", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"the folder {str(path.parent)!r} does not exist.", param, ctx)
        return path


@dataclass(frozen=True)
class Source:
    """Which layers of which file, and what the caller knows about their geometry that the file may not say."""

    file: Path
    layers: tuple[str, ...]
    transpose: bool | None
    geometry: dict[str, Any]

    def weights(self) -> "tuple[Weight, ...]":
        """The chosen weights; options override the geometry that the format says.

        Raises:
            SdplipError: unreadable file, invalid weight, unknown layer.
        """
        from sdplip.geometry import Geometry
        from sdplip.weights import read

        chosen = read(self.file, transpose=self.transpose, layers=self.layers)
        if not self.geometry:
            return chosen
        if all(weight.array.ndim == 2 for weight in chosen):
            options = ", ".join(f"--{name.replace('_', '-')}" for name in self.geometry)
            raise click.UsageError(f"{options}: no chosen layer is a convolution. Drop the option.")
        return tuple(
            weight
            if weight.array.ndim == 2
            else replace(weight, geometry=replace(weight.geometry or Geometry(), **self.geometry))
            for weight in chosen
        )

    def refuse_contradictions(self) -> None:
        """Refuses options that contradict the file, before a certificate is written that would speak of another layer.

        Raises:
            UsageError: the file says otherwise how a layer moves.
        """
        from sdplip.weights import read
        from sdplip.weights.sniff import sniff

        if sniff(self.file) != "onnx":
            return
        for weight in read(self.file, layers=self.layers):
            if weight.geometry is None or weight.array.ndim == 2:
                continue
            own = weight.geometry.expand(weight.array.shape)
            said = replace(weight.geometry, **self.geometry).expand(weight.array.shape)
            for name in self.geometry:
                if name != "image_size" and vars(own)[name] != vars(said)[name]:
                    raise click.UsageError(
                        f"--{name.replace('_', '-')}: the file says {vars(own)[name]} for `{weight.name}`, and a certificate"
                        " is about the file. Drop the option, or --certificate."
                    )


GEOMETRY = ("image_size", "stride", "padding", "padding_mode", "dilation", "groups")


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds FILE and the options that say how to read it; the command receives them as one `source`."""

    @functools.wraps(command)
    def with_source(*, file: Path, layer: tuple[str, ...], transpose: bool | None, **rest: Any) -> Any:
        given = {name: rest.pop(name) for name in GEOMETRY}
        geometry = {name: value for name, value in given.items() if value is not None}
        return command(source=Source(file, layer, transpose, geometry), **rest)

    options = (
        click.argument("file", type=click.Path(path_type=Path)),
        click.option("--layer", multiple=True, metavar="NAME", help="Only this layer; may be repeated."),
        transpose_option(
            "The file stores (in, out) and (*taps, in, out), or it does not; default: what names say."
        ),
        click.option("--image-size", type=Axes(), help="Image of a convolution; default: every size."),
        click.option("--stride", type=Axes(), help="Of every chosen convolution; so are the next four."),
        click.option("--padding", type=Axes(), help="Pixels on each side; default: same."),
        click.option("--padding-mode", metavar="MODE", help="zeros or circular."),
        click.option("--dilation", type=Axes()),
        click.option("--groups", type=int),
    )
    return functools.reduce(lambda f, option: option(f), reversed(options), with_source)


def transpose_option(text: str) -> Callable[..., Any]:
    """`--transpose`, which need not be said."""
    return click.option("--transpose/--no-transpose", default=None, help=text)


def form_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--form`."""
    return click.option(
        "--form",
        type=click.Choice(["linear", "residual"]),
        default="linear",
        show_default=True,
        help="The layer: W T^(-1/2) x, or x - 2 W T^-1 act(W^T x) with the file's rows as hidden units.",
    )(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def solver_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--solver` and `--device`."""
    device = click.option(
        "--device",
        default="cpu",
        show_default=True,
        metavar="DEVICE",
        help="cpu or cuda, for the interior point.",
    )
    name = click.option(
        "--solver",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="auto, interior_point, mixing, or a solver of CVXPY: scs, clarabel, sdpa, ...",
    )
    return name(device(command))


def solver_named(name: str, device: str) -> "Solver":
    """The solver object that the two options mean."""
    from sdplip import solvers

    kind = name.lower().replace("-", "_")
    if device != "cpu" and kind not in ("auto", "interior_point"):
        raise click.UsageError(
            f"--device {device} is for the interior point, not for `{name}`. Drop one of the two."
        )
    if kind == "interior_point" or (kind == "auto" and device != "cpu"):
        return solvers.InteriorPoint(device=device)
    if kind == "mixing":
        return solvers.Mixing()
    return "auto" if kind == "auto" else solvers.CVXPY(solver=name.upper())


def method_named(name: str, solver: "Solver" = "auto", watch: "Watch | None" = None) -> "Method":
    """The method that a name such as `aol` or `multi_step:4` means."""
    from sdplip import reports

    fixed = {"identity": reports.IDENTITY, "spectral": reports.SPECTRAL}
    fixed |= {"aol": reports.AOL, "perron": reports.PERRON}
    kind, _, order = name.lower().replace("-", "_").partition(":")
    if kind == "multi_step" and (not order or (order.isdecimal() and 1 <= int(order) <= 64)):
        return reports.multi_step(int(order or 2))
    if kind == "min_trace" and not order:
        return reports.min_trace(solver, watch)
    if kind not in fixed or order:
        raise click.UsageError(
            f"There is no scaling `{name}`. Use {', '.join(SCALINGS)} or multi_step:P with P from 1 to 64."
        )
    return fixed[kind]

"""`sdplip bound FILE`: a proven Lipschitz constant of a whole network."""

import math
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdplip.cli.answers import path_or_none, print_json, verify_command, written
from sdplip.cli.network import NetworkSource, reading_options
from sdplip.cli.options import Output, json_option, transpose_option
from sdplip.cli.question import METHODS, Exactly, Question, compared
from sdplip.cli.region import Given, RegionType, given_region
from sdplip.progress import bound_bar

if TYPE_CHECKING:
    from sdplip.bounds import Expansion
    from sdplip.bounds.answer import NetworkBound
    from sdplip.kernel.proof import Norm
    from sdplip.network import Network
    from sdplip.network.read.understood import Understood
    from sdplip.verifier.claim import LipschitzClaim


class Two(click.ParamType):
    """`A,B`: two finite numbers of one type."""

    def __init__(self, kind: type[int] | type[float]):
        self.kind, self.name = kind, "I,J" if kind is int else "A,B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            numbers = tuple(self.kind(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
            what = "whole" if self.kind is int else "finite"
            self.fail(
                f"{value!r} is not {self.name}, two {what} numbers with a comma between them.", param, ctx
            )
        return numbers


@click.command(short_help="Prove a Lipschitz bound of a whole network.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--method",
    type=click.Choice([*METHODS, "lipsdp-network"]),
    metavar="NAME",
    help=f"{METHODS[0]} (default), {', '.join(METHODS[1:])}.",
)
@click.option(
    "--activation",
    metavar="NAME",
    help="relu (default), tanh, maxmin, groupsort:K, ...; ONNX says it itself.",
)
@click.option(
    "--slopes", type=Two(float), help="Of any other activation: its difference quotients' interval."
)
@click.option("--output-pair", type=Two(int), help="Bound output I minus output J, counted from 0.")
@click.option(
    "--output-norm",
    type=click.Choice(["l2", "linf"]),
    default="l2",
    show_default=True,
    help="Of the output; linf bounds its largest entry.",
)
@click.option(
    "--ball",
    type=RegionType(True),
    help="Only inputs in this Euclidean ball (and in the box). CENTER: numbers or a .npy file.",
)
@click.option(
    "--box", type=RegionType(False), help="Only inputs in this box. Each end: a number or a .npy file."
)
@click.option(
    "--region",
    "property_file",
    type=click.Path(path_type=Path),
    metavar="P.vnnlib",
    help="Only inputs in the box of this VNN-LIB property.",
)
@click.option("--pieces", type=click.IntRange(min=1), default=1, help="Cut the region into up to so many.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Budget of auto and exact, and of each method of --compare; Ctrl-C ends it early. The best proven bound until then counts.",
)
@click.option(
    "--gap",
    type=click.FloatRange(min=0, min_open=True),
    metavar="G",
    help="Of --method exact: end where both sides are within G, relative (default 1e-6).",
)
@click.option(
    "--any-biases",
    is_flag=True,
    help="Of --method exact: the largest constant over all biases, not of these.",
)
@click.option(
    "--state",
    type=Output(".npz"),
    metavar="S.npz",
    help="Of --method exact: keep the search in this file, and go on from it.",
)
@click.option(
    "--input", "inputs", metavar="NAME", help="Of an ONNX graph with several inputs: this one alone."
)
@click.option("--output", "outputs", metavar="NAME", help="Of an ONNX graph with several outputs: this one.")
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="DEVICE",
    help="cpu or cuda, for auto and lipsdp methods.",
)
@transpose_option("The file stores (in, out), or it does not; default: what names say.")
@click.option("--layer", multiple=True, metavar="NAME", help="Only these layers, in the order given.")
@click.option("--expansion", is_flag=True, help="Prove from below, too: how far apart outputs are at least.")
@click.option("--compare", is_flag=True, help="All methods side by side, with times.")
@click.option(
    "--certificate", type=Output(".json"), metavar="OUT.json", help="Write the proof for `sdplip verify`."
)
@click.option(
    "--plot",
    type=Output(".png", ".pdf", ".svg"),
    metavar="FILE.png",
    help="Draw the bounds of --compare (png, pdf, svg).",
)
@reading_options
@json_option
def bound(
    file: Path,
    method: str | None,
    activation: str | None,
    slopes: tuple[float, float] | None,
    output_pair: tuple[int, int] | None,
    output_norm: "Norm",
    ball: Given | None,
    box: Given | None,
    property_file: Path | None,
    pieces: int,
    seconds: float,
    gap: float | None,
    any_biases: bool,
    state: Path | None,
    inputs: str | None,
    outputs: str | None,
    device: str,
    transpose: bool | None,
    layer: tuple[str, ...],
    expansion: bool,
    compare: bool,
    certificate: Path | None,
    plot: Path | None,
    reading: dict[str, Any],
    as_json: bool,
) -> None:
    """Prove how Lipschitz the network in FILE is, from input to output, in Euclidean norms or to the largest output.

    FILE is an ONNX graph, a network file of sdplip, or bare weights: those are one network in file order, with the activation
    between them and nothing else; kernels come first, on images of --image-size. What such a file does not say is said with the
    bound. The kernel proves it; no solver is trusted for it.
    """
    from sdplip.cli import render

    if compare and method:
        raise click.UsageError("--compare runs every method. Drop --method.")
    if plot and not compare:
        raise click.UsageError("--plot draws the methods of --compare. Add --compare, or drop --plot.")
    regional = bool(ball or box or property_file)
    if pieces > 1 and not regional:
        raise click.UsageError("--pieces cuts a region. Add --box, --ball or --region, or drop --pieces.")
    if pieces > 1 and compare:
        raise click.UsageError("--pieces is for one method at a time. Drop --compare, or --pieces.")
    if device != "cpu" and (compare or pieces > 1):
        raise click.UsageError("--device is for one bound. Drop it, or --compare and --pieces.")
    if output_pair and output_norm == "linf":
        raise click.UsageError(
            "--output-pair is about one number, which has one norm. Drop --output-norm, or the pair."
        )
    if method != "exact" and (gap or any_biases or state):
        raise click.UsageError(
            "--gap, --any-biases and --state are of --method exact. Name it, or drop them."
        )
    if method == "exact" and (pieces > 1 or device != "cpu"):
        raise click.UsageError(
            "--method exact cuts regions by itself, on the cpu. Drop --pieces and --device."
        )
    if expansion and (regional or output_pair or output_norm == "linf"):
        raise click.UsageError(
            "--expansion is about all inputs and all outputs, in Euclidean norms. Drop the other."
        )
    source = NetworkSource(file, layer, transpose, activation, slopes, reading, inputs, outputs)
    understood = source.understood(biases=regional or method == "exact")
    network = understood.network
    region = given_region(ball, box, network, property_file)
    expanded = _expanded(network) if expansion else None
    with bound_bar() as (watch, report):
        ask = Question(
            network,
            output_pair,
            output_norm,
            region,
            watch,
            pieces,
            device,
            seconds,
            report,
            exact=Exactly(gap or 1e-6, any_biases, state),
        )
        results = compared(ask) if compare else [ask.bound(method or "auto")]
    best = min(results, key=lambda result: result.bound)
    if certificate:
        _save(certificate, file, understood, best, ask, expanded)
    title = f"{file}: {widths(network)}, {source.text}"
    if plot:
        from sdplip.plot import draw_bounds, save

        save(draw_bounds(results, title), plot)
    if as_json:
        files = {**written(certificate, file), "figure": path_or_none(plot)}
        methods = [_method(result) for result in results] if compare else None
        document = _to_json(best, ask) | {
            "expands": None if expanded is None else expanded.lower, "methods": methods, **_understood(understood)
        }  # fmt: skip
        print_json("bound", {"file": str(file), **document, **files})
    else:
        proof = verify_command(certificate, file) if certificate else None
        render.bound(results, best, title, proof, plot, understood, region, output_pair, expanded)


def _expanded(network: "Network") -> "Expansion":
    from sdplip.bounds import expansion
    from sdplip.errors import InvalidProblem, NotProvable

    try:
        return expansion(network)
    except (InvalidProblem, NotProvable) as error:
        raise type(error)(f"{error} Without --expansion the bound from above is proven alone.") from None


def _save(
    path: Path,
    file: Path,
    understood: "Understood",
    best: "NetworkBound",
    ask: Question,
    expanded: "Expansion | None",
) -> None:
    """Writes the certificate file."""
    from sdplip import __version__
    from sdplip.verifier.document import Document, Entry, digest, write
    from sdplip.verifier.expansion import ExpansionClaim

    entries = [Entry(_claim(best, ask).to_json(), best.proof)]
    if expanded is not None:
        entries.append(Entry(ExpansionClaim(expanded.lower).to_json(), expanded.proof))
    write(path, Document(digest(file), understood.reading, tuple(entries)), __version__)


def _claim(result: "NetworkBound", ask: Question) -> "LipschitzClaim":
    from sdplip.verifier.claim import LipschitzClaim

    return LipschitzClaim(result.bound, ask.pair or (), ask.norm, ask.region)


def _method(result: "NetworkBound") -> dict[str, Any]:
    """What one method found."""
    return {
        "method": result.method,
        "bound": result.bound,
        "lower": result.lower,
        "lower_proven": result.lower_proven,
        "sdp_lower": result.sdp_lower,
        "gap": result.gap,
        "seconds": result.seconds,
        "order": result.order,
        "row": result.row,
        "note": result.note,
    }


def _to_json(result: "NetworkBound", ask: Question) -> dict[str, Any]:
    tried = [
        {"method": one.method, "bound": one.bound, "seconds": one.seconds, "note": one.note}
        for one in result.tried
    ]
    return {
        **_method(result),
        "rigorous": True,  # every value of `sdplip.bounds` is the kernel's
        "output_pair": None if ask.pair is None else list(ask.pair),
        "output_norm": ask.norm,
        "witness": None if result.witness is None else result.witness.tolist(),
        "words": _claim(result, ask).words(),
        "tried": tried,
    }


def _understood(found: "Understood") -> dict[str, Any]:
    """How the file was read."""
    return {
        "assumed": list(found.sentences),
        "left_out": [{"array": name, "why": why} for name, why in found.left_out],
        "checked": found.checked,
    }


def widths(network: "Network") -> str:
    """Lengths of the values between which linear nodes stand, along the way that everything takes."""
    from sdplip.network import is_linear

    lengths = [network.inputs]
    for before, value in pairwise(network.cuts):
        inside = network.between(before, value).nodes
        if all(is_linear(node.op) for node in inside) or len(inside) > 1:
            lengths.append(network.length(value))
    shown = (
        [str(n) for n in lengths] if len(lengths) <= 10 else [*map(str, lengths[:4]), "...", str(lengths[-1])]
    )
    return " → ".join(shown)

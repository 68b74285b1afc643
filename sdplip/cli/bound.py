"""`sdplip bound FILE`: a proven Lipschitz constant of a whole network."""

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdplip.cli.network import NetworkSource, reading_options
from sdplip.cli.options import Output, json_option, transpose_option
from sdplip.cli.progress import network_bar
from sdplip.cli.proofs import save_proof
from sdplip.cli.question import METHODS, Question, best_with_proof, compared
from sdplip.cli.region import Given, RegionType, given_region

if TYPE_CHECKING:
    from sdplip.bounds import Method, NetworkBound
    from sdplip.bounds.samples import OutputNorm
    from sdplip.networks import Network


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
    "--device",
    default="cpu",
    show_default=True,
    metavar="DEVICE",
    help="cpu or cuda, for auto and lipsdp methods.",
)
@transpose_option("The file stores (in, out), or it does not; default: what names say.")
@click.option("--layer", multiple=True, metavar="NAME", help="Only these layers, in the order given.")
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
    method: "Method | None",
    activation: str | None,
    slopes: tuple[float, float] | None,
    output_pair: tuple[int, int] | None,
    output_norm: "OutputNorm",
    ball: Given | None,
    box: Given | None,
    property_file: Path | None,
    pieces: int,
    device: str,
    transpose: bool | None,
    layer: tuple[str, ...],
    compare: bool,
    certificate: Path | None,
    plot: Path | None,
    reading: dict[str, Any],
    as_json: bool,
) -> None:
    """Prove how Lipschitz the network in FILE is, from input to output, in Euclidean norms or to the largest output.

    The matrices of FILE are one network: in file order, with the activation between them and nothing else; kernels come
    first, on images of --image-size. The kernel proves the bound; no solver is trusted for it.
    """
    from sdplip.cli import render

    if compare and method:
        raise click.UsageError("--compare runs every method. Drop --method.")
    if plot and not compare:
        raise click.UsageError("--plot draws the methods of --compare. Add --compare, or drop --plot.")
    regional = bool(ball or box or property_file)
    if pieces > 1 and not regional:
        raise click.UsageError("--pieces cuts a region. Add --box or --ball, or drop --pieces.")
    if pieces > 1 and compare:
        raise click.UsageError("--pieces is for one method at a time. Drop --compare, or --pieces.")
    if pieces > 1 and certificate and output_norm == "linf":
        raise click.UsageError(
            "--pieces has a certificate file for Euclidean lengths only. Drop --output-norm, or --certificate."
        )
    if device != "cpu":
        if compare or pieces > 1:
            raise click.UsageError("--device is for one bound. Drop it, or --compare and --pieces.")
        from sdplip.bounds.lipsdp import check_device  # loads torch

        check_device(
            device, "single outputs" if output_norm == "linf" and not output_pair else method or "auto"
        )
    if output_pair and output_norm == "linf":
        raise click.UsageError(
            "--output-pair is about one number, which has one norm. Drop --output-norm, or the pair."
        )
    source = NetworkSource(file, layer, transpose, activation, slopes, reading)
    network = source.network(biases=regional)
    assumed, left_out = ((), ()) if source.is_onnx else source.words(biases=regional)
    region = given_region(ball, box, network, property_file)
    with network_bar() as watch:
        as_system = bool(certificate and (output_pair or output_norm == "linf"))
        ask = Question(network, output_pair, output_norm, region, watch, as_system, pieces, device)
        if certificate and ask.is_system and pieces == 1 and method in ("product", "composite"):
            raise click.UsageError(
                f"The {method} bound of a pair, a region, the largest output, sorting or residual sums has no certificate file."
                " Use riccati or lipsdp-neuron, or drop --certificate."
            )
        results = compared(ask) if compare else [ask.bound(method or "auto")]
        best = min(results, key=lambda result: result.value)
        if certificate:
            best = best_with_proof(ask, results)
    if certificate:
        saved = save_proof(certificate, file, best, network, reading)
        results = [saved if result is best else result for result in results] if compare else [saved]
        best = saved
    title = f"{file}: {_widths(best, network)}, {source.text}"
    if plot:
        from sdplip.plot import draw_bounds, save

        save(draw_bounds(results, title), plot)
    if as_json:
        words = {
            "assumed": list(assumed),
            "left_out": [{"array": name, "why": why} for name, why in left_out],
        }
        rows = [_to_json(file, result, certificate if result is best else None) | words for result in results]
        render.json_lines({"file": str(file), "methods": rows} if compare else rows[0])
    else:
        options = "".join(f" --layer {shlex.quote(name)}" for name in layer) + _turned(transpose)
        proof = f"sdplip verify {certificate} {file}{options}" if certificate else None
        render.bound(
            results, best, title, proof, plot, (*assumed, *(f"Not in it: `{n}`, {w}." for n, w in left_out))
        )


def _turned(transpose: bool | None) -> str:
    return {None: "", True: " --transpose", False: " --no-transpose"}[transpose]


def _to_json(file: Path, result: "NetworkBound", certificate: Path | None) -> dict[str, Any]:
    norm = {} if result.row is None else {"output_norm": "linf", "row": result.row}
    return {
        "file": str(file),
        "method": result.method,
        "bound": result.value,
        "lower": result.lower,
        "sdp_lower": result.sdp_lower,
        "gap": result.gap,
        "rigorous": True,  # every value of `sdplip.bounds` is the kernel's
        "seconds": result.seconds,
        "order": result.order,
        "certificate": str(certificate) if certificate else None,
        **norm,
    }


def _widths(result: "NetworkBound", network: "Network") -> str:
    from sdplip.networks import Convolution, MaxPool

    weights = result.chain.weights
    widths = [weights[0].shape[1], *map(len, weights)]
    if result.row is not None:  # the chain is that of one output
        widths[-1] = network.outputs
    images = [layer for layer in network.layers if isinstance(layer, Convolution | MaxPool)]
    if images:  # their bounds may not be about dense matrices
        widths = [network.inputs, *(layer.outputs for layer in images), network.outputs]
    shown = [str(n) for n in widths] if len(widths) <= 10 else [*map(str, widths[:4]), "...", str(widths[-1])]
    return " → ".join(shown)

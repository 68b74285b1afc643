"""`sdplip tighten RUN`: a trained network certified again with bounds of the whole network."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdplip.cli.answers import path_or_none, print_json, verify_command
from sdplip.cli.options import Output, json_option
from sdplip.cli.regression import is_regression
from sdplip.cli.subject import out_of_memory, sample_options, subject_on
from sdplip.progress import image_bar, network_bar

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sdplip.bounds.classes import MarginMethod
    from sdplip.cli.subject import Subject
    from sdplip.kernel.accuracy import Arithmetic
    from sdplip.network import Network
    from sdplip.network.read.understood import Understood
    from sdplip.robustness.arithmetic import Precision
    from sdplip.robustness.certification import Certification
    from sdplip.robustness.graph_accuracy import Certified
    from sdplip.robustness.local import LocalRadii
    from sdplip.robustness.tighten import Tightened


@click.command(short_help="Certify a trained run again with the bound of the whole network.")
@click.argument("run", metavar="RUN|MODEL", type=click.Path(path_type=Path))
@click.option("--data", metavar="DATA", help="As for `sdplip certify`; by default the data of the run.")
@sample_options
@click.option(
    "--method", type=click.Choice(["auto", "product", "riccati", "lipsdp-neuron", "pairs"]), default="auto",
    show_default=True, help="Of the bound.",
)  # fmt: skip
@click.option(
    "--pairs/--no-pairs", default=True, show_default=True, help="Bound each pair of classes too, or all at once."
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=60.0, show_default=True,
    help="Budget of the bound, of that in front of the head, and of pairs by themselves.",
)  # fmt: skip
@click.option(
    "--local", type=click.IntRange(1), metavar="N",
    help="Then also constants around each of the first N images.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["float64", "float32"]), default="float64", show_default=True,
    help="In which the network runs.",
)  # fmt: skip
@click.option(
    "--plot", type=Output(".png", ".pdf", ".svg"), metavar="FILE.png", help="The curves (png, pdf, svg)."
)
@click.option(
    "--certificate", type=Output(".json"), metavar="OUT.json",
    help="Write the proof of the radii (of --local, if given) for `sdplip verify`; files beside it as of `sdplip certify`.",
)  # fmt: skip
@json_option
def tighten(
    run: Path,
    data: str | None,
    radii: tuple[str, ...],
    method: "MarginMethod",
    pairs: bool,
    seconds: float,
    local: int | None,
    split: str,
    limit: int | None,
    precision: "Precision",
    plot: Path | None,
    certificate: Path | None,
    as_json: bool,
) -> None:
    """Prove larger radii for the trained network in RUN, without training it again.

    The constants of the margins are proven for the whole network, for its part in front of the head and for every pair of classes, in
    place of a product over its layers; the least counts, so no radius falls. Up to about 3,000 inputs and neurons pairs share the
    multipliers of these bounds, and get their own as long as --seconds last; the kernel proves every constant. MODEL is a file as
    for `sdplip certify`; it needs --data.

    --local N follows the network around each image: larger radii, for about a second an image of a small network.

    Exit codes: 0 done (whether it helped or not), 2 bad input, 130 interrupted (nothing is written then).
    """
    if is_regression(run):
        raise click.UsageError(
            f"`{run}` is a regression, and pairs of classes are what is tightened. `sdplip certify {run}` proves what holds of it."
        )
    subject, samples = subject_on(run, data, split, limit)
    images, labels = samples.images, samples.labels
    if not as_json:
        subject.say()
    asked = _Asked(method, pairs, seconds, None if local is None else min(local, len(images)), precision)
    if certificate is None and run.is_dir():
        found, around = _by_torch(subject, images, labels, asked)
        known = understood = None
    else:
        understood = subject.understood or subject.graph(tuple(images.shape[1:]), precision)
        found, around, known = _by_kernel(understood.network, images.numpy(), labels.numpy(), asked)
    document = found.to_json(file=str(run), data=samples.data, radii=radii)
    document |= {"split": split, "assumed": list(subject.assumed), "note": subject.note}
    document |= {"local": None if around is None else around.to_json(radii), "proof": None, "verify": None}
    if certificate and known and understood:
        document |= _save(certificate, subject, understood, known, images, labels)
    document |= {"certificate": path_or_none(certificate), "figure": path_or_none(plot)}
    if plot:
        _draw(found, around, plot)
    if as_json:
        print_json("tighten", document)
    else:
        _show(found, around, document, plot)


@dataclass(frozen=True)
class _Asked:
    """What is asked of the constants, and around how many images."""

    method: "MarginMethod"
    pairs: bool
    seconds: float
    local: int | None
    precision: "Precision"


def _by_torch(
    subject: "Subject", images: "Tensor", labels: "Tensor", asked: _Asked
) -> "tuple[Tightened, LocalRadii | None]":
    from sdplip.robustness.arithmetic import network_in
    from sdplip.robustness.local import front_of, local_radii
    from sdplip.robustness.tighten import tighten as tightened

    if asked.local:  # what cannot be followed around an image is refused before the long solve
        front_of(network_in(subject.model, asked.precision), tuple(images.shape[1:]))
    with out_of_memory(), network_bar() as watch, image_bar("pairs of classes") as progress:
        found = tightened(
            subject.model, images, labels, asked.method, pairs=asked.pairs, precision=asked.precision,
            seconds=asked.seconds, watch=watch, progress=progress,
        )  # fmt: skip
    if not asked.local:
        return found, None
    n = asked.local
    with image_bar("balls around images") as progress:
        return found, local_radii(subject.model, images[:n], labels[:n], found.after, progress=progress)


def _by_kernel(
    network: "Network", images: "np.ndarray", labels: "np.ndarray", asked: _Asked
) -> "tuple[Tightened, LocalRadii | None, Certified]":
    """The same by the kernel alone, of exact arithmetic where the rounding of some function is not known."""
    from sdplip.errors import NotProvable
    from sdplip.robustness.around import check_followed
    from sdplip.robustness.local import local_radii_graph
    from sdplip.robustness.tighten import tighten_graph

    if asked.local:
        check_followed(network)
    with network_bar() as watch, image_bar("pairs of classes") as progress:

        def tightened(arithmetic: "Arithmetic") -> "tuple[Tightened, Certified]":
            return tighten_graph(
                network, images, labels, asked.method, pairs=asked.pairs, arithmetic=arithmetic, seconds=asked.seconds,
                watch=watch, progress=progress,
            )  # fmt: skip

        try:
            found, known = tightened(asked.precision)
        except NotProvable:
            found, known = tightened("exact")
    if not asked.local:
        return found, None, known
    with image_bar("balls around images") as progress:
        around, known = local_radii_graph(network, images[: asked.local], known, progress=progress)
    return found, around, known


def _save(
    path: Path,
    subject: "Subject",
    understood: "Understood",
    known: "Certified",
    images: "Tensor",
    labels: "Tensor",
) -> dict[str, Any]:
    """Writes the certificate of these images; the keys that tell of it."""
    from sdplip.robustness.graph_accuracy import images_file, network_file, save_certificate

    n = known.certification.n
    save_certificate(path, known, understood, subject.file, images[:n].numpy(), labels[:n].numpy())
    network = network_file(path) if subject.file is None else subject.file
    proof = {
        "network": str(network),
        "images": str(images_file(path)),
        "arithmetic": known.claim.arithmetic,
        "n": n,
        "mean_radius": known.certification.mean_radius,
    }
    return {"proof": proof, "verify": verify_command(path, network, images_file(path))}


def _draw(found: "Tightened", around: "LocalRadii | None", path: Path) -> None:
    from sdplip.plot import draw_curves, save
    from sdplip.robustness.curve import curve_of_certification

    names = {"layer by layer": found.before, "whole network": found.after}
    if around is not None:
        names["around each image" + _first(found, around)] = around.after
    save(draw_curves([curve_of_certification(name, side) for name, side in names.items()]), path)


def _first(found: "Tightened", around: "LocalRadii") -> str:
    n = around.after.n
    return "" if n == found.after.n else f", first {n}"


def _show(
    found: "Tightened", around: "LocalRadii | None", document: dict[str, Any], plot: Path | None
) -> None:
    from sdplip.cli.certified import _percent
    from sdplip.cli.render import above, below, open_console, open_table, say, say_command

    console = open_console()
    say(
        console,
        f"{document['file']} on {document['data']}, {document['split']} split, {document['n']} images\n",
    )
    columns: dict[str, Certification] = {"before": found.before, "after": found.after}
    if around is not None:
        few = _first(found, around)
        columns |= ({f"after{few}": around.before} if few else {}) | {f"around each image{few}": around.after}
    table = open_table("radius", **{f"c{i}": name for i, name in enumerate(columns)})
    table.add_row("0 (clean)", *(_percent(side.clean) for side in columns.values()))
    for eps in document["before"]["certified"]:
        table.add_row(eps, *(_percent(side.certified(eps)) for side in columns.values()))
    table.add_row("mean radius", *(below(side.mean_radius, 5) for side in columns.values()))
    table.add_row(
        "largest margin constant", *(above(side.margin_constant) for side in (found.before, found.after))
    )
    console.print(table)
    say(console, _verdict(found, document))
    if around is not None:
        say(
            console,
            f"Around each image radii are on average {around.gain:.3f} times those before it: {around.balls} balls,"
            f" {around.seconds:.1f} s.",
        )
    say(console, f"{_scope(found.after, document)} {document['seconds']:.1f} s for the bounds.")
    if plot:
        say(console, f"Curves: {plot}")
    if written := document["proof"]:
        say_command(
            console,
            f"Proof of {written['n']} radii written, of {_passes(written['arithmetic'])}: mean radius"
            f" {below(written['mean_radius'], 5)}. Check it anywhere:",
            document["verify"],
        )


def _scope(found: "Certification", document: dict[str, Any]) -> str:
    if found.scope == "exact":
        return "Certified in exact arithmetic, because the rounding of a function is not known."
    words = "rounding subtracted, proven"
    if found.rounding != "proven":
        written = document["proof"]
        only = written and written["arithmetic"] != "exact"
        words = "rounding subtracted by the certificate alone" if only else "rounding not subtracted"
    return f"Certified in {found.precision}, {words}."


def _passes(arithmetic: str) -> str:
    return "exact arithmetic" if arithmetic == "exact" else f"any pass in {arithmetic}"


def _verdict(found: "Tightened", document: dict[str, Any]) -> str:
    """One sentence: what became of the constants and why."""
    from sdplip.cli.render import above

    constants = found.constants
    if constants.whole is None:
        return (
            "Nothing to gain: slopes that every inequality of this kind allows attain the constants layer by layer, up to 0.1 %."
            " They are kept. (Residual blocks x - W S act(W^T x) are the identity where no unit is active.)"
        )
    head = f"Whole network: at most {above(constants.whole.value)} ({constants.whole.method})"
    if not found.helped:
        return f"{head}, which makes no margin's constant smaller. The bounds layer by layer are kept."
    if constants.front is not None:
        head += f", in front of its head {above(constants.front.value)} ({constants.front.method})"
    how = {
        "none": "all outputs at once",
        "front": "times the distances of the rows of the head",
        "shared multipliers": "pairs share the multipliers of one solve",
    }
    kind = how.get(constants.pairs, f"{constants.own} of {constants.tried} pairs solved by themselves")
    return f"{head}; constants of margins are on average {document['gain']:.4f} times smaller ({kind})."

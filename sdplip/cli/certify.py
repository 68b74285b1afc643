"""`sdplip certify RUN|MODEL`: certified accuracy of a trained network, and what attacks leave of it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from sdplip.cli.answers import echo, json_text, path_or_none, print_json, verify_command
from sdplip.cli.options import Finite, Output, json_option
from sdplip.cli.smoothed import Parameters
from sdplip.cli.subject import (
    arrange,
    data_named,
    file_subject,
    images_of,
    out_of_memory,
    run_subject,
    sample_options,
)
from sdplip.progress import image_bar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sdplip.cli.subject import Subject
    from sdplip.kernel.accuracy import Arithmetic
    from sdplip.robustness.arithmetic import Precision
    from sdplip.robustness.attacks import Attack, AttackName
    from sdplip.robustness.certification import Certification, Scope
    from sdplip.robustness.half import Half
    from sdplip.robustness.local_balls import Balls

BATCH = 256
"""Images at a time in torch."""


@click.command(short_help="Prove the certified accuracy of a trained network.")
@click.argument("model", metavar="RUN|MODEL", type=click.Path(path_type=Path))
@click.option(
    "--data",
    metavar="DATA",
    help="digits, mnist, ..., FILE.npz, hub:OWNER/NAME, or a folder of Parquet files.",
)
@sample_options
@click.option(
    "--attack", type=click.Choice(["none", "pgd", "autoattack"]), default="none", show_default=True,
    help="Attack at each radius: the upper side of the truth.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["float64", "float32", "bfloat16", "float16"]), default="float64", show_default=True,
    help="In which the network runs; float32 loses more to the proven rounding error, half precision takes `--scope exact`.",
)  # fmt: skip
@click.option(
    "--scope", type=click.Choice(["computed", "exact"]), default="computed", show_default=True,
    help="Whose prediction: as the network computes it at every image around, or in exact arithmetic.",
)  # fmt: skip
@click.option(
    "--by-blocks",
    is_flag=True,
    help="Of a RUN in float32: its plain layers, sums by blocks of 16, which lose next to nothing.",
)
@click.option("--batch", type=click.IntRange(1), help="Images at a time in torch; default: 256.")
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu or cuda.")
@click.option(
    "--certificate",
    type=Output(".json"),
    metavar="OUT.json",
    help="Write the proof for `sdplip verify`; beside it OUT.images.npz and, of a RUN, OUT.network.safetensors.",
)
@click.option(
    "--samples",
    type=Output(".csv", ".tsv", ".parquet"),
    metavar="OUT.csv",
    help="One row an image: .csv, .tsv, .parquet.",
)
@click.option(
    "--smoothing",
    type=Parameters(),
    help="Randomized smoothing as a baseline beside the proof, such as 0.25,1000,0.001.",
)
@click.option(
    "--tolerance",
    type=Finite(),
    metavar="T",
    help="Of a regression: errors below T count as right, in the unit of the target; default: that of the run.",
)
@click.option(
    "--local", is_flag=True,
    help="Then try each image that is not certified at a radius by bounds of its own ball, within --seconds.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(min=0), metavar="S", help="Of --local, an image and radius; default: 10."
)  # fmt: skip
@json_option
def certify(
    model: Path,
    data: str | None,
    radii: tuple[str, ...],
    attack: "Literal['none'] | AttackName",
    split: str,
    limit: int | None,
    precision: "Precision | Half",
    scope: "Scope",
    by_blocks: bool,
    batch: int | None,
    device: str,
    certificate: Path | None,
    samples: Path | None,
    smoothing: tuple[float, int, float] | None,
    tolerance: float | None,
    local: bool,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Prove at how many images the network predicts right, and keeps doing so at every image within a radius.

    RUN is a folder that `sdplip train` made; its data are those of the run. MODEL is an ONNX graph, a network file, or a weight
    file of matrices with ReLU between them; it needs --data. A certificate of the whole test split is also kept in RUN, for
    `sdplip curves`.

    --precision bfloat16 or float16 certifies the network of a RUN exported to plain layers, its weights rounded to that format, with the
    predictions of its pass in it; --by-blocks the network that `sdplip.nn.by_blocks` makes of it. Neither result is kept in RUN.

    --local goes on with each image that the constants leave open at a radius: lines with offsets on its ball, increments from it, splits of
    neurons, multipliers of its own, until one proves it or --seconds of CPU time are over. Where an attack finds another class in the ball,
    nothing is tried.

    --smoothing adds certificates of the smoothed network that hold with a probability; they stand apart from what is proven.

    A RUN of a regression is certified on its own data: how far predictions move, and at how many rows the error stays below --tolerance,
    at every row within a radius (in standard deviations of the training rows).

    Exit codes: 0 certified, 2 bad input, 130 interrupted (nothing is written then).
    """
    from sdplip.cli import regression, smoothed
    from sdplip.cli.certified import certification
    from sdplip.robustness.samples import write_samples

    half = precision == "bfloat16" or precision == "float16"
    if half:
        alone = attack == "none" and not (
            smoothing or certificate or local or regression.is_regression(model)
        )
        _check_half(precision, scope, alone and model.is_dir())
    if by_blocks and (precision != "float32" or certificate or local or not model.is_dir()):
        raise click.UsageError(
            "--by-blocks is for a RUN with --precision float32, whose proof is torch's. Drop it, or --certificate and --local."
        )
    if regression.is_regression(model):
        if (
            data
            or by_blocks
            or certificate
            or smoothing
            or device != "cpu"
            or batch
            or attack != "none"
            or scope != "computed"
            or local
        ):
            raise click.UsageError(
                "The run is a regression, certified on its own data by one constant. Of the options it takes --radii, --split, --limit,"
                " --tolerance, --precision, --samples and --json; drop the others."
            )
        regression.certify_run(
            model,
            radii,
            split,
            limit,
            tolerance=tolerance,
            precision=precision,  # pyright: ignore[reportArgumentType]  # no half: checked above
            samples=samples,
            as_json=as_json,
        )
        return
    if tolerance is not None:
        raise click.UsageError(
            "--tolerance is for runs of numbers, but this is a network of classes. Drop it."
        )
    if seconds is not None and not local:
        raise click.UsageError("--seconds is the budget of --local. Add --local, or drop it.")
    tries = _attack(attack, batch or BATCH)
    if smoothing:
        smoothed.checked(smoothing)
    if samples and samples.suffix.lower() == ".parquet":
        from sdplip.robustness.samples import require_parquet

        require_parquet()
    by_kernel = certificate is not None or local or not model.is_dir()
    if by_kernel and device != "cpu":
        raise click.UsageError(
            "Certificates, --local and files of networks are proven by NumPy. Drop --device."
        )
    if by_kernel and not tries and smoothing is None and batch is not None:
        raise click.UsageError("--batch is for torch, which takes no part in this. Drop it.")
    subject = run_subject(model) if model.is_dir() else file_subject(model)
    wanted = data_named(data, subject.data)
    images, labels = images_of(wanted, split, limit)
    subject, images = arrange(subject, images)
    network = _placed(subject.model, device)
    if half or by_blocks:
        from sdplip import nn

        network = nn.export_plain(network).model
        network = nn.by_blocks(network) if by_blocks else network
    if not as_json:
        subject.say()
        if by_blocks:
            echo("The network of the run exported to plain layers, its sums by blocks of 16.\n")
    balls = None
    if by_kernel:
        asked = _Local(radii, 10.0 if seconds is None else seconds) if local else None
        found, balls = _by_kernel(subject, images, labels, precision, scope, certificate, asked)  # pyright: ignore[reportArgumentType]
    else:
        from sdplip.robustness.certification import certify_accuracy

        with out_of_memory(), image_bar("certifying") as watch:
            found = certify_accuracy(
                network,
                images,
                labels,
                precision=precision,
                batch=batch or BATCH,
                scope=scope,
                progress=watch,
            )
    empirical: dict[str, Any] = {}
    if tries:
        from sdplip.robustness.attacks import STRONGER, attack_at

        with out_of_memory(), image_bar(attack) as watch:
            empirical[attack] = attack_at(
                network, images, labels, found, radii, attack=tries, stronger=STRONGER if attack == "pgd" else (),
                batch=batch or BATCH, progress=watch,
            )  # fmt: skip
    document = found.to_json(file=str(model), data=wanted.name, radii=radii, empirical=empirical)
    blocks = ["exported to plain layers, sums by blocks of 16"] if by_blocks else []
    document |= {"split": split, "assumed": list(subject.assumed) + blocks, "note": subject.note}
    document |= {"samples": path_or_none(samples), "certificate": path_or_none(certificate)}
    document["verify"] = _verify(certificate, subject) if certificate else None
    baseline = None
    if smoothing:
        with out_of_memory():
            baseline = smoothed.smoothed(network, images, labels, found, smoothing, batch or BATCH)
    document["regression"] = None
    document["local"] = None if balls is None else balls.to_json()
    document["smoothing"] = None if baseline is None else smoothed.document(baseline, radii)
    if samples:
        write_samples(samples, found)
    kept = subject.run is not None and split == "test" and limit is None and not (half or by_blocks)
    if subject.run is not None and kept:
        _keep(subject.run, found, document)
        if baseline:
            smoothed.keep(subject.run, baseline)
    if as_json:
        print_json("certify", document)
    else:
        certification(found, document, attack, samples, subject.run if kept else None)
        if baseline:
            smoothed.say(baseline, radii, subject.run if kept else None)


@dataclass(frozen=True)
class _Local:
    """At which radii balls are tried, and how long an image."""

    radii: tuple[str, ...]
    seconds: float


def _check_half(precision: str, scope: "Scope", alone: bool) -> None:
    """Half precision proves one statement, about the network of a run.

    Raises:
        click.UsageError: another one is asked for.
    """
    if scope != "exact":
        raise click.UsageError(
            f"What {precision} would compute at other images has no bound. Add `--scope exact`: the function of the numbers stored,"
            " with the prediction of the pass at each image."
        )
    if not alone:
        raise click.UsageError(
            f"Only the classes of a RUN are certified in {precision}, by themselves. Drop --attack, --smoothing, --local and --certificate, or"
            " choose float64."
        )


def _by_kernel(
    subject: "Subject",
    images: "Tensor",
    labels: "Tensor",
    precision: "Precision",
    scope: "Scope",
    certificate: Path | None,
    local: _Local | None,
) -> "tuple[Certification, Balls | None]":
    """Certified by the kernel alone, on the graph of the network; its certificate, where one is wanted."""
    from sdplip.errors import InvalidProblem, NotProvable
    from sdplip.robustness.graph_accuracy import certify_graph, save_certificate

    arithmetic: Arithmetic = "exact" if scope == "exact" else precision
    understood = subject.understood or subject.graph(tuple(images.shape[1:]), precision)
    try:
        with image_bar("certifying") as watch:
            found = certify_graph(
                understood.network, images.numpy(), labels.numpy(), arithmetic=arithmetic, progress=watch
            )
    except NotProvable as error:
        if scope == "exact":
            raise
        raise InvalidProblem(f"{error} `--scope exact` certifies the network of exact arithmetic.") from None
    balls = None
    if local:
        from sdplip.robustness.local_balls import certify_balls

        with image_bar("balls around images") as watch:
            balls = certify_balls(
                understood.network, images.numpy(), found, local.radii, seconds=local.seconds, progress=watch
            )
        found = balls.after
    if certificate:
        save_certificate(certificate, found, understood, subject.file, images.numpy(), labels.numpy())
    return replace(found.certification, precision=precision), balls  # of exact arithmetic: whose numbers


def _verify(certificate: Path, subject: "Subject") -> str:
    """The command that proves it again."""
    from sdplip.robustness.graph_accuracy import images_file, network_file

    network = network_file(certificate) if subject.file is None else subject.file
    return verify_command(certificate, network, images_file(certificate))


def _attack(name: str, batch: int) -> "Attack | None":
    """The attack; a missing package is noticed before anything long begins."""
    if name == "none":
        return None
    if name == "autoattack":
        from sdplip.robustness.autoattack import autoattack

        return autoattack(batch=batch)
    from sdplip.robustness.attacks import pgd

    return pgd()


def _placed(model: "nn.Module", device: str) -> "nn.Module":
    import torch

    try:
        torch.zeros(1, device=device).item()
        return model.to(torch.device(device))
    except (RuntimeError, AssertionError, NotImplementedError):
        from sdplip.solvers.devices import why_not

        raise click.UsageError(
            f"--device {device} cannot be used: {why_not(device)}. Use --device cpu."
        ) from None


def _keep(run: Path, found: Any, document: dict[str, Any]) -> None:
    """What `sdplip curves` reads: the table first, so that a document never speaks of a table that is not there."""
    from sdplip.robustness.run import RESULT, SAMPLES
    from sdplip.robustness.samples import write_samples
    from sdplip.writing import write_text

    write_samples(run / SAMPLES, found)
    write_text(run / RESULT, json_text("certify", document) + "\n")

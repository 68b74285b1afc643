"""What `sdplip certify` does with a network of classes: prove, attack, write, say."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdplip.cli import smoothed
from sdplip.cli.answers import echo, json_text, path_or_none, print_json, verify_command
from sdplip.cli.certified import certification
from sdplip.cli.certify_options import Options
from sdplip.cli.subject import Samples, Subject, out_of_memory, subject_on
from sdplip.progress import image_bar
from sdplip.robustness.samples import write_samples

if TYPE_CHECKING:
    from torch import nn

    from sdplip.kernel.accuracy import Arithmetic
    from sdplip.robustness.attacks import Attack
    from sdplip.robustness.certification import Certification
    from sdplip.robustness.local_balls import Balls


@dataclass(frozen=True, eq=False)
class _Case:
    """A network of classes and the images that it is certified on.

    Attributes:
        network: the module that runs: that of the subject, or what the options make of it.
    """

    asked: Options
    subject: Subject
    network: "nn.Module"
    samples: Samples


def certify_classes(asked: Options) -> None:
    """Certifies a network of classes, attacks it where that is wanted, writes files and prints the answer."""
    attack = _attack(asked)
    case = _case(asked)
    found, balls = _by_kernel(case) if asked.by_kernel else (_by_torch(case), None)
    empirical = {} if attack is None else {asked.attack: _attacked(case, found, attack)}
    document = _document(case, found, balls, empirical)
    baseline = None
    if asked.smoothing:
        with out_of_memory():
            baseline = smoothed.smoothed(
                case.network, case.samples.images, case.samples.labels, found, asked.smoothing, asked.at_once
            )
        document["smoothing"] = smoothed.document(baseline, asked.radii)
    if asked.samples:
        write_samples(asked.samples, found)
    run = case.subject.run if asked.whole else None
    if run is not None:
        _keep(run, found, document)
        if baseline:
            smoothed.keep(run, baseline)
    if asked.as_json:
        print_json("certify", document)
        return
    certification(found, document, asked.attack, asked.samples, run)
    if baseline:
        smoothed.say(baseline, asked.radii, run)


def _case(asked: Options) -> _Case:
    """The network and its images; said, unless the answer is JSON."""
    subject, samples = subject_on(asked.model, asked.data, asked.split, asked.limit)
    network = _placed(subject.model, asked.device)
    if asked.half or asked.by_blocks:
        from sdplip import nn

        network = nn.export_plain(network).model
        network = nn.by_blocks(network) if asked.by_blocks else network
    if not asked.as_json:
        subject.say()
        if asked.by_blocks:
            echo("The network of the run exported to plain layers, its sums by blocks of 16.\n")
    return _Case(asked, subject, network, samples)


def _by_torch(case: _Case) -> "Certification":
    """Certified by torch, with its bound of all rounding errors."""
    from sdplip.robustness.certification import certify_accuracy

    asked = case.asked
    with out_of_memory(), image_bar("certifying") as watch:
        return certify_accuracy(
            case.network, case.samples.images, case.samples.labels, precision=asked.precision, batch=asked.at_once, scope=asked.scope, progress=watch
        )  # fmt: skip


def _by_kernel(case: _Case) -> "tuple[Certification, Balls | None]":
    """Certified by the kernel alone, on the graph of the network; its certificate, where one is wanted."""
    from sdplip.errors import InvalidProblem, NotProvable
    from sdplip.robustness.graph_accuracy import certify_graph, save_certificate

    asked, subject, images, labels = (
        case.asked,
        case.subject,
        case.samples.images.numpy(),
        case.samples.labels.numpy(),
    )
    precision = asked.precision
    assert precision == "float64" or precision == "float32", (
        "`check_precision` leaves half precision to torch"
    )
    arithmetic: Arithmetic = "exact" if asked.scope == "exact" else precision
    understood = subject.understood or subject.graph(tuple(images.shape[1:]), precision)
    try:
        with image_bar("certifying") as watch:
            found = certify_graph(understood.network, images, labels, arithmetic=arithmetic, progress=watch)
    except NotProvable as error:
        if asked.scope == "exact":
            raise
        raise InvalidProblem(f"{error} `--scope exact` certifies the network of exact arithmetic.") from None
    balls = None
    if asked.local:
        from sdplip.robustness.local_balls import SECONDS, certify_balls

        seconds = SECONDS if asked.seconds is None else asked.seconds
        with image_bar("balls around images") as watch:
            balls = certify_balls(
                understood.network, images, found, asked.radii, seconds=seconds, progress=watch
            )
        found = balls.after
    if asked.certificate:
        save_certificate(asked.certificate, found, understood, subject.file, images, labels)
    return replace(found.certification, precision=precision), balls  # of exact arithmetic: whose numbers


def _attacked(case: _Case, found: "Certification", attack: "Attack") -> dict[str, float]:
    """What the attack leaves at each radius."""
    from sdplip.robustness.attacks import STRONGER, attack_at

    asked = case.asked
    with out_of_memory(), image_bar(asked.attack) as watch:
        return attack_at(
            case.network, case.samples.images, case.samples.labels, found, asked.radii, attack=attack,
            stronger=STRONGER if asked.attack == "pgd" else (), batch=asked.at_once, progress=watch,
        )  # fmt: skip


def _document(
    case: _Case, found: "Certification", balls: "Balls | None", empirical: dict[str, Any]
) -> dict[str, Any]:
    """The answer as JSON, but for smoothing."""
    asked, subject = case.asked, case.subject
    document = found.to_json(
        file=str(asked.model), data=case.samples.data, radii=asked.radii, empirical=empirical
    )
    blocks = ["exported to plain layers, sums by blocks of 16"] if asked.by_blocks else []
    return document | {
        "split": asked.split,
        "assumed": [*subject.assumed, *blocks],
        "note": subject.note,
        "samples": path_or_none(asked.samples),
        "certificate": path_or_none(asked.certificate),
        "verify": _verify(asked.certificate, subject) if asked.certificate else None,
        "regression": None,
        "local": None if balls is None else balls.to_json(),
        "smoothing": None,
    }


def _verify(certificate: Path, subject: Subject) -> str:
    """The command that proves it again."""
    from sdplip.robustness.graph_accuracy import images_file, network_file

    network = network_file(certificate) if subject.file is None else subject.file
    return verify_command(certificate, network, images_file(certificate))


def _attack(asked: Options) -> "Attack | None":
    """The attack; a missing package is noticed before anything long begins."""
    if asked.attack == "none":
        return None
    if asked.attack == "autoattack":
        from sdplip.robustness.autoattack import autoattack

        return autoattack(batch=asked.at_once)
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


def _keep(run: Path, found: "Certification", document: dict[str, Any]) -> None:
    """What `sdplip curves` reads: the table first, so that a document never speaks of a table that is not there."""
    from sdplip.robustness.run import RESULT, SAMPLES
    from sdplip.writing import write_text

    write_samples(run / SAMPLES, found)
    write_text(run / RESULT, json_text("certify", document) + "\n")

"""`sdplip certify RUN|MODEL`: certified accuracy of a trained network, and what attacks leave of it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from sdplip.cli.options import Output, json_option
from sdplip.cli.progress import PATIENCE

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sdplip.nn import Bound
    from sdplip.robustness.arithmetic import Precision
    from sdplip.robustness.attacks import Attack, AttackName
    from sdplip.robustness.certification import Scope
    from sdplip.training.config import DataConfig

DEFAULT_RADII = ("36/255", "72/255", "108/255", "1")


class Radii(click.ParamType):
    """`36/255,0.5,1`: numbers or fractions of at least 0, kept as they are written."""

    name = "R,R,.."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        parts = tuple(part.strip() for part in str(value).split(","))
        for part in parts:
            try:
                fine = Fraction(part) >= 0
            except (ValueError, ZeroDivisionError):
                fine = False
            if not fine:
                self.fail(
                    f"{part!r} is not a number or fraction of at least 0, such as 36/255 or 0.5.", param, ctx
                )
        if len(set(parts)) != len(parts):
            self.fail(f"{value!r} names a radius twice.", param, ctx)
        return parts


@dataclass(frozen=True)
class Subject:
    """What is certified: a network, the data that it was made for (None: not known), a bound from elsewhere, its folder."""

    model: "nn.Module"
    data: "DataConfig | None"
    whole: "Bound | None"
    run: Path | None


@click.command(short_help="Prove the certified accuracy of a trained network.")
@click.argument("model", metavar="RUN|MODEL", type=click.Path(path_type=Path))
@click.option(
    "--data",
    metavar="DATA",
    help="digits, mnist, ..., FILE.npz, hub:OWNER/NAME, or a folder of Parquet files.",
)
@click.option(
    "--radii", type=Radii(), default=",".join(DEFAULT_RADII), show_default=True, help="l2, images in [0, 1]."
)
@click.option(
    "--attack", type=click.Choice(["none", "pgd", "autoattack"]), default="none", show_default=True,
    help="Attack at each radius: the upper side of the truth.",
)  # fmt: skip
@click.option(
    "--split", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N images.")
@click.option(
    "--precision", type=click.Choice(["float64", "float32"]), default="float64", show_default=True,
    help="In which the network runs; float32 loses more to the proven rounding error.",
)  # fmt: skip
@click.option(
    "--scope", type=click.Choice(["computed", "exact"]), default="computed", show_default=True,
    help="Whose prediction: as the network computes it at every image around, or in exact arithmetic.",
)  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=256, show_default=True, help="Images at a time.")
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu or cuda.")
@click.option(
    "--samples",
    type=Output(".csv", ".tsv", ".parquet"),
    metavar="OUT.csv",
    help="One row an image: .csv, .tsv, .parquet.",
)
@json_option
def certify(
    model: Path,
    data: str | None,
    radii: tuple[str, ...],
    attack: "Literal['none'] | AttackName",
    split: str,
    limit: int | None,
    precision: "Precision",
    scope: "Scope",
    batch: int,
    device: str,
    samples: Path | None,
    as_json: bool,
) -> None:
    """Prove at how many images the network predicts right, and keeps doing so at every image within a radius.

    RUN is a folder that `sdplip train` made; its data are those of the run. MODEL is a weight file of a fully-connected network
    (matrices with ReLU between them, or an ONNX graph); it needs --data. A certificate of the whole test split is also kept in
    RUN, for `sdplip curves`.

    Exit codes: 0 certified, 2 bad input, 130 interrupted (nothing is written then).
    """
    from sdplip.cli import render
    from sdplip.cli.certified import certification
    from sdplip.robustness.certification import certify_accuracy
    from sdplip.robustness.samples import write_samples

    tries = _attack(attack, batch)
    if samples and samples.suffix.lower() == ".parquet":
        from sdplip.robustness.samples import require_parquet

        require_parquet()
    subject = _run(model) if model.is_dir() else _weights(model)
    wanted = _data_named(data, subject.data)
    network, images, labels = _placed(subject.model, device), *_images(wanted, split, limit)
    with _out_of_memory(), _bar("certifying") as watch:
        found = certify_accuracy(
            network,
            images,
            labels,
            precision=precision,
            batch=batch,
            scope=scope,
            whole=subject.whole,
            progress=watch,
        )
    empirical: dict[str, Any] = {}
    if tries:
        from sdplip.robustness.attacks import attack_at

        with _out_of_memory(), _bar(attack) as watch:
            empirical[attack] = attack_at(
                network, images, labels, found, radii, attack=tries, batch=batch, progress=watch
            )
    document = found.to_json(model=str(model), data=wanted.name, radii=radii, empirical=empirical)
    document["split"] = split
    if samples:
        write_samples(samples, found)
    kept = subject.run is not None and split == "test" and limit is None
    if subject.run is not None and kept:
        _keep(subject.run, found, document)
    if as_json:
        render.json_lines(document)
    else:
        certification(found, document, attack, samples, subject.run if kept else None)


def _attack(name: str, batch: int) -> "Attack | None":
    """The attack; a missing package is noticed before anything long begins."""
    if name == "none":
        return None
    if name == "autoattack":
        from sdplip.robustness.autoattack import autoattack

        return autoattack(batch=batch)
    from sdplip.robustness.attacks import pgd

    return pgd()


def _run(folder: Path) -> Subject:
    from sdplip.training.run import load_run

    config, model = load_run(folder)
    return Subject(model, config.data, None, folder)


def _weights(file: Path) -> Subject:
    """A file of weights, with the best bound of `sdplip.bounds` beside the product of its layers."""
    from sdplip import bounds
    from sdplip.cli.network import NetworkSource
    from sdplip.errors import UnreadableFile
    from sdplip.nn import Bound
    from sdplip.robustness.from_network import module_of

    if not file.exists():
        raise UnreadableFile(f"There is no run or file `{file}`. Train one with `sdplip train --out {file}`.")
    network = NetworkSource(file).network()
    model = module_of(network)
    result = bounds.bound(network)
    return Subject(
        model, None, Bound(result.value, f"`sdplip bound`, method {result.method}", "network"), None
    )


def _data_named(data: str | None, own: "DataConfig | None") -> "DataConfig":
    """The data set that `--data` means, else that of the run."""
    from sdplip.training.config import DataConfig
    from sdplip.training.data import KNOWN

    if data is None:
        if own is None:
            raise click.UsageError(
                "A weight file does not say what it was made for. Add --data, for example --data mnist."
            )
        return own
    base = own or DataConfig(validation=0.0)
    if data == "digits" or data in KNOWN or data.startswith("hub:") or data.endswith(".npz"):
        return replace(base, name=data, path=None)
    named = Path(data).name
    if (
        named not in KNOWN
    ):  # a folder says what is in it by its name, else it is what the run learned from such a folder
        named = own.name if own and own.name in KNOWN else "parquet"
    return replace(base, name=named, path=data)


def _images(config: "DataConfig", split: str, limit: int | None) -> "tuple[Tensor, Tensor]":
    from sdplip.training.data import load

    whole = load(replace(config, validation=0.0) if split == "test" else config)
    chosen = {"test": whole.test, "validation": whole.validation, "train": whole.train}[split]
    if chosen is None:
        raise click.UsageError("--split validation: nothing was held out of these data. Use --split test.")
    return chosen.images[:limit], chosen.labels[:limit]


def _placed(model: "nn.Module", device: str) -> "nn.Module":
    import torch

    try:
        return model.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise click.UsageError(f"--device {device} cannot be used ({reason}). Use --device cpu.") from None


def _keep(run: Path, found: Any, document: dict[str, Any]) -> None:
    """What `sdplip curves` reads: the table first, so that a document never speaks of a table that is not there."""
    import json
    import os

    from sdplip.robustness.run import RESULT, SAMPLES
    from sdplip.robustness.samples import write_samples

    write_samples(run / SAMPLES, found)
    part = run / f".{RESULT}.new"
    try:
        part.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(part, run / RESULT)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _out_of_memory() -> Iterator[None]:
    import torch

    from sdplip.errors import OutOfResources

    try:
        yield
    except torch.OutOfMemoryError:
        raise OutOfResources(
            "The device has too little memory for this batch. Use a smaller `--batch`."
        ) from None


@contextmanager
def _bar(what: str) -> "Iterator[Callable[[int, int], None] | None]":
    """A callback that draws images done after two seconds; None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    )  # fmt: skip
    task, begin = bar.add_task("", total=None), time.perf_counter()

    def watch(done: int, total: int) -> None:
        if time.perf_counter() - begin > PATIENCE:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield watch
    finally:
        bar.stop()

"""What `sdplip certify` and `sdplip tighten` share: the network, its images, radii, and a bar of images done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdplip.cli.answers import echo
from sdplip.cli.images import arranged, read_samples

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sdplip.network.read.understood import Understood
    from sdplip.robustness.arithmetic import Precision
    from sdplip.training.config import DataConfig
    from sdplip.training.data.dataset import DataSet, Split

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
    """What is certified.

    Attributes:
        model: as a torch module, which is attacked.
        data: the data that it was made for; None where that is not known.
        run: the folder of a run; None of a file.
        understood: the graph of a file; None of a run.
        file: of the network; None of a run.
        note: what the caller should know.
        order: what was assumed about the order of the numbers of an image.
    """

    model: "nn.Module"
    data: "DataConfig | None"
    run: Path | None = None
    understood: "Understood | None" = None
    file: Path | None = None
    note: str = ""
    order: tuple[str, ...] = ()

    @property
    def assumed(self) -> tuple[str, ...]:
        """What a file does not say itself."""
        return (() if self.understood is None else self.understood.sentences) + self.order

    def say(self) -> None:
        """What people should know before anything long begins."""
        for text in (
            *(f"Assumed: {sentence}" for sentence in self.assumed),
            *([self.note] if self.note else []),
        ):
            echo(text, err=True)

    def graph(self, shape: tuple[int, ...], precision: "Precision") -> "Understood":
        """The graph of the network that runs in that precision, on samples of that shape."""
        from sdplip.network.read.torch import understand_module
        from sdplip.robustness.arithmetic import network_in

        return understand_module(network_in(self.model, precision), shape)


def sample_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--radii`, `--split`, `--limit`: at what radii, and on which images."""
    for option in (
        click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N images."),
        click.option(
            "--split", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True
        ),
        click.option(
            "--radii",
            type=Radii(),
            default=",".join(DEFAULT_RADII),
            show_default=True,
            help="l2, images in [0, 1].",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, eq=False)
class Samples:
    """Images and labels, and the name of their data."""

    data: str
    images: "Tensor"
    labels: "Tensor"


def subject_on(model: Path, data: str | None, split: str, limit: int | None) -> tuple[Subject, Samples]:
    """A run or file, and the images that it is asked about, as it takes them.

    Raises:
        click.UsageError: a file without `data`, a validation split that is empty.
    """
    subject = run_subject(model) if model.is_dir() else file_subject(model)
    wanted = data_named(data, subject.data)
    images, labels = images_of(wanted, split, limit)
    subject, images = arrange(subject, images)
    return subject, Samples(wanted.name, images, labels)


def run_subject(folder: Path) -> Subject:
    """A folder of `sdplip train`."""
    from sdplip.training.run import SUMMARY, load_run

    config, model = load_run(folder)
    note = ""
    if not (folder / SUMMARY).exists():
        note = f"`{folder}` is not finished: these are the weights selected so far. Go on: sdplip train --resume {folder}"
    return Subject(model, config.data, folder, note=note)


def file_subject(file: Path) -> Subject:
    """A file that holds a network: an ONNX graph, a network file, bare weights."""
    from sdplip.cli.network import NetworkSource
    from sdplip.errors import UnreadableFile
    from sdplip.robustness.graph_module import GraphModule

    if not file.exists():
        raise UnreadableFile(
            f"There is no run or file `{file}`. Check the path; `sdplip train --out {file}` trains a run."
            if not file.suffix
            else f"There is no file `{file}`. Check the path."
        )
    understood = NetworkSource(file).understood(biases=True)
    return Subject(GraphModule(understood.network).eval(), None, None, understood, file)


def data_named(data: str | None, own: "DataConfig | None") -> "DataConfig":
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


def images_of(config: "DataConfig", split: str, limit: int | None) -> "tuple[Tensor, Tensor]":
    """Images and labels of a split, the first `limit` of them. Of a .npz file test images suffice."""
    from sdplip.training.data import load

    file = Path(config.name)
    if split == "test" and file.suffix == ".npz" and config.path is None:
        images, labels = read_samples(file)
        return images[:limit], labels[:limit]
    whole = load(replace(config, validation=0.0) if split == "test" else config)
    chosen = part_of(whole, split)
    return chosen.images[:limit], chosen.labels[:limit]


def part_of(data: "DataSet", split: str) -> "Split":
    """The split of that name.

    Raises:
        click.UsageError: the validation split is empty.
    """
    found = {"test": data.test, "validation": data.validation, "train": data.train}[split]
    if found is None:
        raise click.UsageError("--split validation: nothing was held out of these data. Use --split test.")
    return found


def arrange(subject: Subject, images: "Tensor") -> "tuple[Subject, Tensor]":
    """The images as the network of a file takes them, and what was assumed for that."""
    if subject.understood is None:
        return subject, images
    images, order = arranged(images, subject.understood.network.input_shape)
    return replace(subject, order=order), images


@contextmanager
def out_of_memory() -> Iterator[None]:
    """A block whose lack of device memory is one sentence."""
    import torch

    from sdplip.errors import OutOfResources

    try:
        yield
    except torch.OutOfMemoryError:
        raise OutOfResources(
            "The device has too little memory for this batch. Use a smaller `--batch`."
        ) from None

"""What `sdplip certify` is asked, and which of its options go together."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from sdplip.robustness.arithmetic import Precision
    from sdplip.robustness.attacks import AttackName
    from sdplip.robustness.certification import Scope
    from sdplip.robustness.half import Half

BATCH = 256
"""Images at a time in torch."""


@dataclass(frozen=True)
class Options:
    """The options of the command, by their names there."""

    model: Path
    data: str | None
    radii: tuple[str, ...]
    attack: "Literal['none'] | AttackName"
    split: str
    limit: int | None
    precision: "Precision | Half"
    scope: "Scope"
    by_blocks: bool
    batch: int | None
    device: str
    certificate: Path | None
    samples: Path | None
    smoothing: tuple[float, int, float] | None
    tolerance: float | None
    local: bool
    seconds: float | None
    as_json: bool

    @property
    def half(self) -> bool:
        """Whether the network runs in half precision."""
        return self.precision in ("bfloat16", "float16")

    @property
    def by_kernel(self) -> bool:
        """Whether NumPy proves it, on the graph of the network."""
        return self.certificate is not None or self.local or not self.model.is_dir()

    @property
    def at_once(self) -> int:
        """Images at a time in torch."""
        return self.batch or BATCH

    @property
    def whole(self) -> bool:
        """Whether this is about the network of a run as it is and all of its test images, so that the result may be kept there."""
        as_it_is = self.model.is_dir() and not (self.half or self.by_blocks)
        return as_it_is and self.split == "test" and self.limit is None

    def check_precision(self, *, numbers: bool) -> None:
        """Half precision proves one statement, about the network of a run; sums by blocks are another network.

        Args:
            numbers: whether the run is a regression.

        Raises:
            click.UsageError: another statement is asked for.
        """
        if self.half and self.scope != "exact":
            raise click.UsageError(
                f"What {self.precision} would compute at other images has no bound. Add `--scope exact`: the function of the numbers stored,"
                " with the prediction of the pass at each image."
            )
        more = self.attack != "none" or self.smoothing or self.certificate or self.local or numbers
        if self.half and (more or not self.model.is_dir()):
            raise click.UsageError(
                f"Only the classes of a RUN are certified in {self.precision}, by themselves. Drop --attack, --smoothing, --local and"
                " --certificate, or choose float64."
            )
        if self.by_blocks and (self.precision != "float32" or self.by_kernel):
            raise click.UsageError(
                "--by-blocks is for a RUN with --precision float32, whose proof is torch's. Drop it, or --certificate and --local."
            )

    def check_regression(self) -> None:
        """What a regression has no use for.

        Raises:
            click.UsageError: such an option is given.
        """
        of_files = self.data or self.certificate or self.local or self.by_blocks
        of_classes = self.attack != "none" or self.smoothing or self.scope != "computed"
        if of_files or of_classes or self.device != "cpu" or self.batch:
            raise click.UsageError(
                "The run is a regression, certified on its own data by one constant. Of the options it takes --radii, --split, --limit,"
                " --tolerance, --precision, --samples and --json; drop the others."
            )

    def check_classes(self) -> None:
        """What a network of classes has no use for, and what must be there before anything long begins.

        Raises:
            click.UsageError: such an option is given, or a wrong value.
            MissingPackage: a table of samples needs one that is not installed.
        """
        from sdplip.cli import smoothed

        if self.tolerance is not None:
            raise click.UsageError(
                "--tolerance is for runs of numbers, but this is a network of classes. Drop it."
            )
        if self.seconds is not None and not self.local:
            raise click.UsageError("--seconds is the budget of --local. Add --local, or drop it.")
        if self.smoothing:
            smoothed.checked(self.smoothing)
        if self.samples and self.samples.suffix.lower() == ".parquet":
            from sdplip.robustness.samples import require_parquet

            require_parquet()
        if self.by_kernel and self.device != "cpu":
            raise click.UsageError(
                "Certificates, --local and files of networks are proven by NumPy. Drop --device."
            )
        if self.by_kernel and self.attack == "none" and self.smoothing is None and self.batch is not None:
            raise click.UsageError("--batch is for torch, which takes no part in this. Drop it.")

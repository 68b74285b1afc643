"""`sdplip certify --smoothing SIGMA,N,ALPHA`: randomized smoothing beside the proof, and never mixed with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdplip.arithmetic.decimals import percent_below
from sdplip.progress import image_bar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sdplip.robustness.certification import Certification
    from sdplip.robustness.smoothing import Smoothed

NAMES = {"cohen": "Cohen", "lipschitz": "Lipschitz score"}
TABLES = {"cohen": "smoothing-cohen.csv", "lipschitz": "smoothing-lipschitz.csv"}
"""What stays in a run folder: one row a sample, of each method."""


class Parameters(click.ParamType):
    """`0.25,1000,0.001`: noise, samples, failure probability; the last two may be left out."""

    name = "SIGMA,N,ALPHA"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, int, float]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        defaults = ["", "1000", "0.001"]
        try:
            sigma, samples, alpha = parts + defaults[len(parts) :]
            return float(sigma), int(samples), float(alpha)
        except ValueError:
            self.fail(
                f"{value!r} is not SIGMA,N,ALPHA: noise, a whole number of samples, a probability, such as 0.25,1000,0.001.",
                param,
                ctx,
            )


def checked(parameters: tuple[float, int, float]) -> None:
    """Nothing, for parameters that can certify something: noticed before anything long begins.

    Raises:
        InvalidProblem: others.
    """
    from sdplip.robustness.smoothing import Smoothing

    Smoothing(*parameters)


def smoothed(
    network: "nn.Module",
    images: "Tensor",
    labels: "Tensor",
    found: "Certification",
    parameters: tuple[float, int, float],
    batch: int,
) -> "tuple[Smoothed, ...]":
    """The certificates of the smoothed network, with the constants that the proof has found."""
    from sdplip.robustness.half import full
    from sdplip.robustness.smoothing import Smoothing, certify_smoothed

    with image_bar("smoothing") as watch:
        return certify_smoothed(
            network,
            images,
            labels,
            Smoothing(*parameters),
            constants=found.constants,
            precision=full(found.precision),
            batch=batch,
            progress=watch,
        )


def document(found: "tuple[Smoothed, ...]", radii: tuple[str, ...]) -> dict[str, Any]:
    """What JSON says of it: every number stands under the probability with which it holds."""
    first, by = found[0], {one.method: one.to_json(radii) for one in found}
    return {
        "sigma": first.smoothing.sigma,
        "draws": first.smoothing.samples,
        "selection": first.smoothing.selection,
        "alpha": first.smoothing.alpha,
        "probability": first.probability,
        "evaluations": first.evaluations,
        "seconds": first.seconds,
        "cohen": by["cohen"],
        "score": by.get("lipschitz"),
    }


def say(found: "tuple[Smoothed, ...]", radii: tuple[str, ...], run: Path | None) -> None:
    """Prints a table of its own: no proof, and no number of the proof."""
    from sdplip.cli.render import below, open_console, open_table, say_command
    from sdplip.cli.render import say as told

    first, console = found[0], open_console()
    percent = f"{100 * first.probability:.6g} %"
    told(
        console,
        f"Not proven: randomized smoothing, noise {first.smoothing.sigma:g}. Each certificate holds with probability {percent}, image"
        " by image, of the smoothed network.",
    )
    table = open_table("radius", **{one.method: f"{NAMES[one.method]}, {percent} an image" for one in found})
    table.add_row("0 (clean)", *(percent_below(one.clean) for one in found))
    for eps in radii:
        table.add_row(eps, *(percent_below(one.certified(eps)) for one in found))
    console.print(table)
    abstained = ", ".join(f"{NAMES[one.method]} {int((one.prediction < 0).sum())}" for one in found)
    told(
        console,
        f"{first.evaluations} evaluations and {1000 * first.seconds / first.n:.3g} ms an image; abstained: {abstained}. Cohen's"
        f" certificate cannot exceed {below(first.smoothing.ceiling, 4)} with {first.smoothing.samples} samples.",
    )
    if run:
        tables = " ".join(str(run / TABLES[one.method]) for one in found)
        say_command(console, "Kept in the run. Next:", f"sdplip curves {run} {tables} -o curves.png")


def keep(run: Path, found: "tuple[Smoothed, ...]") -> None:
    """What `sdplip curves` reads."""
    from sdplip.robustness.samples import write_samples

    for one in found:
        write_samples(run / TABLES[one.method], one)

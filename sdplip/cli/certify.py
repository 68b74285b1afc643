"""`sdplip certify RUN|MODEL`: certified accuracy of a trained network, and what attacks leave of it."""

from pathlib import Path
from typing import Any

import click

from sdplip.cli.certify_options import Options
from sdplip.cli.options import Finite, Output, json_option
from sdplip.cli.smoothed import Parameters
from sdplip.cli.subject import sample_options


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
def certify(**options: Any) -> None:
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
    from sdplip.cli import regression
    from sdplip.cli.certifying import certify_classes

    asked = Options(**options)
    numbers = regression.is_regression(asked.model)
    asked.check_precision(numbers=numbers)
    if numbers:
        asked.check_regression()
        regression.certify_run(asked)
    else:
        asked.check_classes()
        certify_classes(asked)

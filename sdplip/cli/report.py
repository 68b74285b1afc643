"""`sdplip report RUN|FILE`: one page for the browser about a run, a network or a certificate."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdplip.cli.answers import echo, print_json
from sdplip.cli.options import Output, json_option

if TYPE_CHECKING:
    from sdplip.page import Report


@click.command(short_help="One page for the browser: what is proven, and the proof.")
@click.argument("subject", metavar="RUN|FILE", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=Output(".html"), default="report.html", show_default=True, metavar="FILE.html", help="The page."
)  # fmt: skip
@click.option(
    "--network", type=click.Path(path_type=Path), metavar="FILE",
    help="Of a certificate: the file that it is about; its claims are proven again.",
)  # fmt: skip
@click.option(
    "--images", type=click.Path(path_type=Path), metavar="FILE.npz",
    help="Of a certificate of images: their file.",
)  # fmt: skip
@click.option("--data", metavar="DATA", help="Of a run: where its images are now; default: where they were.")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=20.0, show_default=True,
    help="For the bound of a file, and for the comparison of layers with their best scalings.",
)  # fmt: skip
@json_option
def report(
    subject: Path,
    output: Path,
    network: Path | None,
    images: Path | None,
    data: str | None,
    seconds: float,
    as_json: bool,
) -> None:
    """Write one self-contained page about RUN or FILE: what is proven, why, figures, and the proof to take away.

    RUN is a folder of `sdplip train`; after `sdplip certify RUN --attack pgd` the page has its curve and attacks. FILE is a
    network or weight file, which is bounded, or a certificate (.json). The page has no script, loads nothing, and stays below
    2 MB: files of a proof for which it has no room are written beside it.

    Exit code: 0, or 2 bad input.
    """
    found = _report(subject, network, images, data, seconds)
    written = found.write(output)
    if as_json:
        print_json(
            "report",
            {
                "file": str(subject),
                "output": str(output),
                "beside": [str(path) for path in written[1:]],
                "bound": found.bound,
                "verify": found.command,
            },
        )
        return
    for sentence in found.lead:
        echo(str(sentence))
    beside = f" (beside it: {', '.join(path.name for path in written[1:])})" if written[1:] else ""
    echo(f"Report: {output}{beside}. Open it in a browser: {output.resolve().as_uri()}")


def _report(
    subject: Path, network: Path | None, images: Path | None, data: str | None, seconds: float
) -> "Report":
    """What the page says.

    Raises:
        UsageError: an option that has no effect on this subject.
        SdplipError: as the three kinds of reports.
    """
    from sdplip.errors import UnreadableFile

    certificate = subject.suffix.lower() == ".json" and not subject.is_dir()
    if not subject.exists():
        raise UnreadableFile(f"There is no run or file `{subject}`. Check the path.")
    if (network or images) and not certificate:
        raise click.UsageError("--network and --images are for a certificate. Drop them.")
    if images and not network:
        raise click.UsageError(
            "--images goes with --network, the file that the certificate is about. Add it."
        )
    if data and not subject.is_dir():
        raise click.UsageError("--data is for a run. Drop it.")
    if certificate:
        from sdplip.page import certificate_report

        return certificate_report(subject, network=network, images=images)
    if subject.is_dir():
        from sdplip.cli.subject import data_named
        from sdplip.page import run_report
        from sdplip.training.run import load_run

        named = None if data is None else data_named(data, load_run(subject)[0].data)
        return run_report(subject, data=named, seconds=seconds)
    from sdplip.page import network_report

    return network_report(subject, seconds=seconds)

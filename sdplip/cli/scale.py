"""`sdplip scale FILE -o OUT.npz`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdplip.cli.answers import print_json, written
from sdplip.cli.options import (
    Output,
    Source,
    form_option,
    json_option,
    method_named,
    solver_named,
    solver_options,
    source_options,
)
from sdplip.progress import progress_bar

if TYPE_CHECKING:
    from sdplip.kernel.condition import Form


@click.command(short_help="Write the rescaled weights with t and their certificates.")
@source_options
@click.option(
    "--scaling", default="min_trace", show_default=True, metavar="NAME", help="As in `sdplip check`."
)
@click.option("-o", "--output", type=Output(".npz"), required=True, metavar="OUT.npz")
@form_option
@solver_options
@click.option("--force", is_flag=True, help="Overwrite OUT.npz and OUT.certificate.json.")
@json_option
def scale(
    source: Source,
    scaling: str,
    output: Path,
    form: "Form",
    solver: str,
    device: str,
    force: bool,
    as_json: bool,
) -> None:
    """Rescale the layers of FILE so that each is proven 1-Lipschitz.

    OUT.npz holds for each layer NAME the vector `NAME.t` and the weight: W T^(-1/2) in the precision of FILE (linear
    form), or unchanged (residual form, which uses t). OUT.certificate.json proves what OUT.npz holds, rounding
    included: `sdplip verify OUT.certificate.json OUT.npz`.
    """
    from sdplip import reports
    from sdplip.cli import render

    _refuse_overwriting(source.file, output, force)
    with progress_bar() as watch:
        method = method_named(scaling, solver_named(solver, device), watch)
        report = reports.scale(source.weights(), method, form=form)
    certificate = reports.save(report, output)
    if as_json:
        files = {"file": str(source.file), "output": str(output)}
        print_json("scale", {**files, **report.to_json(), **written(certificate, output)})
    else:
        render.scale(report, source.file, output, certificate)


def _refuse_overwriting(source: Path, output: Path, force: bool) -> None:
    from sdplip.reports.scale import certificate_path

    if output.exists() and source.exists() and output.samefile(source):
        raise click.UsageError(f"{output} is the input. Write the rescaled weights into another file.")
    existing = [path for path in (output, certificate_path(output)) if path.exists()]
    if existing and not force:
        raise click.UsageError(f"{existing[0]} exists. Choose another name, or overwrite it with --force.")

"""`sdplip check FILE`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdplip.cli.answers import print_json, written
from sdplip.cli.options import (
    Finite,
    Output,
    Source,
    form_option,
    json_option,
    method_named,
    source_options,
)

if TYPE_CHECKING:
    from sdplip.kernel.condition import Form
    from sdplip.reports import Method

EXIT_CODES = {"satisfied": 0, "violated": 1, "undecided": 3}


@click.command(short_help="Does each layer satisfy W^T W <= T? Proven answers.")
@source_options
@click.option(
    "--scaling",
    metavar="NAME",
    help="identity (default: T = I), spectral, aol, perron, multi_step[:P], min_trace.",
)
@click.option("--t", "t_file", type=click.Path(path_type=Path), help="File of vectors t, one a layer name.")
@click.option(
    "--q", "q_file", type=click.Path(path_type=Path), help="File of SLL weights q, one a layer name."
)
@form_option
@click.option("--tol", type=Finite(), default=1e-6, show_default=True, help="Satisfied means c <= 1 + tol.")
@click.option(
    "--certificate", type=Output(".json"), metavar="OUT.json", help="Write the proofs for `sdplip verify`."
)
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    source: Source,
    scaling: str | None,
    t_file: Path | None,
    q_file: Path | None,
    form: "Form",
    tol: float,
    certificate: Path | None,
    as_json: bool,
) -> None:
    """Prove for each layer of FILE whether W^T W <= T, and how large its Lipschitz bound is.

    With the default scaling, T = I, the question is whether the layer is 1-Lipschitz as it stands, and the answer is
    its proven spectral norm.

    Exit code: 0 all satisfied, 1 some violated, 3 some undecided, 2 bad input.
    """
    from sdplip import reports
    from sdplip.cli import render

    method = _method(scaling, t_file, q_file)
    report = reports.check(source.weights(), method, form=form, tolerance=tol)
    if certificate:
        from sdplip.verifier.layers import save_layers

        source.refuse_contradictions()
        entries = [(layer.layer.weight.name, layer.certificate) for layer in report.layers]
        save_layers(certificate, source.file, entries, transpose=source.transpose)
    if as_json:
        print_json(
            "check", {"file": str(source.file), **report.to_json(), **written(certificate, source.file)}
        )
    else:
        render.check(report, source.file, certificate)
    ctx.exit(EXIT_CODES[report.verdict.value])


def _method(scaling: str | None, t_file: Path | None, q_file: Path | None) -> "Method":
    if sum(option is not None for option in (scaling, t_file, q_file)) > 1:
        raise click.UsageError("--scaling, --t and --q each say what T is. Use one of them.")
    from sdplip import reports
    from sdplip.weights import read_vectors

    if t_file is not None:
        return reports.given(read_vectors(t_file))
    if q_file is not None:
        return reports.gershgorin(read_vectors(q_file))
    return method_named(scaling or "identity")

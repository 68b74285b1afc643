"""`sdplip verify CERT FILE`: only the readers and the trusted kernel are used."""

from pathlib import Path

import click

from sdplip.cli.options import json_option


@click.command(short_help="Prove the claims of a certificate again from the files alone.")
@click.argument("certificate", metavar="CERT", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--transpose", is_flag=True, help="As it was when the certificate was made.")
@json_option
@click.pass_context
def verify(ctx: click.Context, certificate: Path, file: Path, transpose: bool, as_json: bool) -> None:
    """Prove every claim of the certificate file CERT again for the weights in FILE.

    Nothing that proposed t takes part: no solver, no torch. Exit code: 0 all proven again, 1 a claim is refuted, not
    provable, or about another weight, 2 bad input.
    """
    from sdplip.certificates import file as certificates
    from sdplip.cli import render
    from sdplip.weights import read, select

    records = certificates.load(certificate)
    weights = select(read(file, transpose=transpose), [record.name for record in records])
    by_name = {weight.name: weight.array for weight in weights}
    results = [certificates.verify(record, by_name[record.name]) for record in records]
    proven = all(result.proven for result in results)
    if as_json:
        layers = [{"name": r.name, "proven": r.proven, "reason": r.reason} for r in results]
        render.json_lines(
            {"certificate": str(certificate), "file": str(file), "proven": proven, "layers": layers}
        )
    else:
        render.verify(records, results, file)
    ctx.exit(0 if proven else 1)

"""`sdplip verify CERT FILE [IMAGES]`: only the readers and the trusted kernel are used."""

from pathlib import Path

import click

from sdplip.cli.answers import echo, print_json
from sdplip.cli.options import json_option


@click.command(short_help="Prove the claims of a certificate again from the files alone.")
@click.argument("certificate", metavar="CERT", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("images", required=False, type=click.Path(path_type=Path))
@json_option
@click.pass_context
def verify(ctx: click.Context, certificate: Path, file: Path, images: Path | None, as_json: bool) -> None:
    """Prove every claim of the certificate file CERT again for the weights in FILE.

    CERT is from `check`, `scale`, `bound`, `tighten` or `certify`; what the last two say of images needs IMAGES too, a .npz file.
    The network is rebuilt from FILE. Nothing that proposed a proof takes part: no solver, no torch; the same code is the package
    `sdplip-verify`, which needs NumPy alone.

    Exit code: 0 all proven again, 1 a claim is refuted, not provable, or about another file, 2 no certificate, or bad input.
    """
    from sdplip.progress import image_bar
    from sdplip.verifier.main import report
    from sdplip.verifier.verify import verify as verified

    with image_bar("proving again") as watch:
        found = verified(certificate, file, images, progress=watch)
    if as_json:
        print_json("verify", found.to_json())
    else:
        echo("\n".join(report(found)))
    ctx.exit(0 if found.proven else 1)

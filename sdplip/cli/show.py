"""`sdplip show CERT`: what a certificate claims, in words."""

from pathlib import Path

import click

from sdplip.cli.answers import echo, print_json
from sdplip.cli.options import json_option


@click.command(short_help="Say in words what a certificate claims.")
@click.argument("certificate", metavar="CERT", type=click.Path(path_type=Path))
@json_option
def show(certificate: Path, as_json: bool) -> None:
    """Print every claim of CERT in words, and the rules of its proof. Nothing is proven: that is `sdplip verify`.

    Exit code: 0, or 2 where the file is no certificate.
    """
    from sdplip.verifier.claim import claim_of
    from sdplip.verifier.document import plain, read
    from sdplip.verifier.show import show_lines

    if not as_json:
        echo("\n".join(show_lines(certificate)))
        return
    document = read(certificate)
    claims = [claim_of(entry.claim) for entry in document.entries]
    print_json(
        "show",
        {
            "certificate": str(certificate),
            "sha256": document.sha256,
            "made": dict(document.made),
            "reading": plain(document.reading),
            "claims": [{"claim": plain(claim.to_json()), "words": claim.words()} for claim in claims],
        },
    )

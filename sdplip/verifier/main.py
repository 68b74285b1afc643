"""`sdplip-verify CERT FILE [IMAGES]`: the command of the sceptic, with the standard library and NumPy alone."""

import argparse
import json
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from sdplip.errors import SdplipError
from sdplip.verifier.show import printable, show_lines
from sdplip.verifier.verify import Verification, verify
from sdplip.writing import JSON_SCHEMA

PROVEN, REFUTED, BAD = 0, 1, 2

HEAD = {"command": "verify", "schema": JSON_SCHEMA}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="sdplip-verify",
        description="Prove every claim of a certificate again from the weight file alone.",
        epilog="Exit code: 0 all proven again, 1 a claim is refuted or cannot be proven, 2 no certificate, or bad input.",
    )
    parser.add_argument("certificate", metavar="CERT", type=Path)
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="the weights that were certified")
    parser.add_argument("images", metavar="IMAGES", type=Path, nargs="?", help=".npz of a claim about images")
    parser.add_argument("--show", action="store_true", help="say what is claimed, and prove nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    try:
        if given.show:
            print("\n".join(show_lines(given.certificate)))
            return PROVEN
        if given.file is None:
            parser.error("name the weight file too, or use --show")
        found = verify(given.certificate, given.file, given.images)
    except SdplipError as error:
        return _fail(str(error), type(error).__name__, as_json=given.json)
    except (OSError, MemoryError) as error:
        return _fail(
            f"{error}. Check path, permissions and memory.", type(error).__name__, as_json=given.json
        )
    print(json.dumps({**HEAD, **found.to_json()}) if given.json else "\n".join(report(found)))
    return PROVEN if found.proven else REFUTED


def _fail(error: str, kind: str, *, as_json: bool) -> int:
    """One sentence on stderr, and for programs an object on stdout."""
    sentence = printable(" ".join(error.split()))
    print(f"Error: {sentence}", file=sys.stderr)
    if as_json:
        print(json.dumps({**HEAD, "error": sentence, "error_kind": kind, "exit_code": BAD}))
    return BAD


def report(found: Verification) -> list[str]:
    """What a person reads: what is assumed first, then every claim with its outcome, then what is not covered."""
    lines = [f"{found.certificate} about {found.file}"]
    if found.assumed:
        lines += [
            "The file does not say it itself; assumed is:",
            *(f"  - {sentence}" for sentence in found.assumed),
        ]
    for claim in found.claims:
        lines.append(f"{'PROVEN AGAIN' if claim.proven else 'NOT PROVEN'}: {claim.words}")
        lines += [] if claim.proven else [f"  because {claim.reason}"]
    if found.left_out:
        lines += ["No claim is about:", *(f"  - `{name}`: {why}" for name, why in found.left_out)]
    good = sum(claim.proven for claim in found.claims)
    lines.append(f"{good} of {len(found.claims)} claims proven again.")
    return [printable(line) for line in lines]


def run() -> None:
    """The entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name of the file that the terminal cannot show is no error
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())


if __name__ == "__main__":
    run()

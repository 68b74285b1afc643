"""What commands print for programs (`--json`), and the command that proves a certificate again."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sdplip.cli.keys import DOCUMENTS, OTHERS, SCHEMA, name_of
from sdplip.lines import folded, room


def print_json(command: str, document: Mapping[str, Any]) -> None:
    """Prints the document as JSON, without NaN or infinity, which JSON does not know."""
    print(json_text(command, document))


def json_text(command: str, document: Mapping[str, Any]) -> str:
    """The document with `command`, `schema` and its keys in the order of `DOCUMENTS`; of others in that of `OTHERS`."""
    parts = OTHERS["error"] if "error" in document else {**DOCUMENTS, **OTHERS}[command]
    keys = list(map(name_of, parts))
    assert set(keys) == set(document), set(keys) ^ set(document)
    ordered = {"command": command, "schema": SCHEMA, **{key: document[key] for key in keys}}
    return json.dumps(ordered, indent=2, allow_nan=False)


def echo(text: str, *, err: bool = False) -> None:
    """Prints sentences, folded where people see them."""
    click.echo(folded(text, room(sys.stderr if err else sys.stdout)), err=err)


def written(certificate: Path | None, *files: Path) -> dict[str, str | None]:
    """The keys `certificate` and `verify` of a document."""
    if certificate is None:
        return {"certificate": None, "verify": None}
    return {"certificate": str(certificate), "verify": verify_command(certificate, *files)}


def verify_command(certificate: Path, *files: Path) -> str:
    """`sdplip verify CERTIFICATE FILE ...`, as a shell takes it."""
    return "sdplip verify " + shlex.join(map(str, (certificate, *files)))


def path_or_none(path: Path | None) -> str | None:
    """A path that may not be there, for JSON."""
    return None if path is None else str(path)

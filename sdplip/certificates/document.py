"""The JSON documents that certificates live in: written whole or not at all, read with one sentence for every defect."""

import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sdplip.errors import InvalidCertificate

Content = TypeVar("Content")


def write(path: str | os.PathLike[str], schema: str, body: dict[str, Any]) -> None:
    """Writes `body` under its schema and the versions that made it; the file appears whole or not at all."""
    versions = {
        "sdplip": version("sdplip"),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    document = {"schema": schema, "versions": versions, **body}
    path = Path(path)
    part = path.with_name(path.name + ".tmp")
    part.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    os.replace(part, path)


def read(
    path: str | os.PathLike[str], schema: str, parse: Callable[[dict[str, Any]], Content], maker: str
) -> Content:
    """What `parse` makes of the document; `maker` is the command or function that the messages recommend.

    Raises:
        InvalidCertificate: not JSON, another schema, or a document that `parse` cannot take.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError) as error:
        raise InvalidCertificate(
            f"`{path}` is not a readable certificate file: {error}. Make one with `{maker}`."
        ) from None
    if not isinstance(document, dict) or document.get("schema") != schema:
        raise InvalidCertificate(
            f"`{path}` is not a certificate of schema {schema}. Make one with `{maker}`."
        )
    try:
        return parse(document)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidCertificate(f"`{path}` is malformed: {error!r}. Make it anew with `{maker}`.") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")

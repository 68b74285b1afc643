"""Certificate files: JSON in one documented schema, written whole or not at all, read with one sentence for every defect.

    {"schema": "sdplip-certificate/2", "made": {versions}, "file": {"sha256", "reading"},
     "claims": [{"claim": ..., "proof": {"rule", "data", "parts"}}]}

The file holds claims, proofs, and how a bare weight file was read. It never holds the network: `verify` rebuilds that from the
weight file. Arrays are nested lists of numbers, as JSON has them; doubles survive that bit for bit.
"""

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidCertificate, UnreadableFile
from sdplip.kernel.proof import Proof
from sdplip.stored import once
from sdplip.writing import write_text

SCHEMA = "sdplip-certificate/2"
OLD = "sdplip-"
LARGEST = 1 << 27
"""Bytes of the largest certificate file that is read: 128 MB; a quarter of that where it holds more than ASCII."""
MOST = 1 << 23
"""Values in it, at most: Python takes up to 72 bytes for each."""
DEEPEST = 100
"""Objects and lists in one another, at most."""
PIECE = 1 << 22
"""Bytes that are looked at together."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A claim, as plain JSON data (`verifier.claim` gives it a meaning), and its proof."""

    claim: Mapping[str, Any]
    proof: Proof


@dataclass(frozen=True, eq=False)
class Document:
    """What a certificate file says.

    Attributes:
        sha256: of the weight file that the claims are about.
        reading: how a file that holds bare arrays was read as a network; what the user assumed.
        entries: at least one.
        made: versions of what made it; informative, no part of any claim.
    """

    sha256: str
    reading: Mapping[str, Any]
    entries: tuple[Entry, ...]
    made: Mapping[str, str] = field(default_factory=dict)


def digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file."""
    sha = hashlib.sha256()
    if not Path(path).is_file():
        raise UnreadableFile(f"There is no file `{path}`. Check the path.")
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def write(path: str | os.PathLike[str], document: Document, version: str) -> None:
    """Writes the file; it appears whole or not at all, and a failure leaves nothing behind."""
    made = {"sdplip": version, "python": platform.python_version(), "numpy": np.__version__}
    body = {
        "schema": SCHEMA,
        "made": made,
        "file": {"sha256": document.sha256, "reading": plain(document.reading)},
        "claims": [{"claim": plain(e.claim), "proof": _from_proof(e.proof)} for e in document.entries],
    }
    write_text(path, json.dumps(body, allow_nan=False) + "\n")


def read(path: str | os.PathLike[str]) -> Document:
    """The document of a certificate file. Nothing in it is believed yet.

    Raises:
        InvalidCertificate: not there, too large, not JSON, keys that stand twice, another schema, no claims, missing fields.
    """
    body = _parsed(Path(path))
    try:
        return _document(body)
    except InvalidCertificate:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _malformed(path, f"{type(error).__name__} at {str(error)[:80]}") from None


def plain(value: Any) -> Any:
    """Numbers, texts, lists and mappings of them, as JSON holds them; arrays become nested lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no place in a certificate")


def _from_proof(proof: Proof) -> dict[str, Any]:
    body: dict[str, Any] = {"rule": proof.rule}
    if proof.data:
        body["data"] = plain(proof.data)
    if proof.parts:
        body["parts"] = [_from_proof(part) for part in proof.parts]
    return body


def _parsed(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise InvalidCertificate(
                f"`{path}` has {size} bytes, more than the {LARGEST} of a certificate that is read. Is it a weight file?"
            )
        raw = path.read_bytes()
        depth, count = _measured(raw)
        if depth > DEEPEST or count > MOST:
            raise _malformed(
                path, f"it holds {count} values and nests {depth} deep, more than {MOST} or {DEEPEST}"
            )
        if size > LARGEST // 4 and not raw.isascii():
            raise _malformed(path, f"a file of {size} bytes must be written in ASCII")
        text = raw.decode("utf-8")
        del raw
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=once)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InvalidCertificate):
            raise
        what = error.strerror if isinstance(error, OSError) else str(error)[:120]
        raise InvalidCertificate(
            f"`{path}` is not a readable certificate file: {what}. Make one with `--certificate` of `sdplip check` or `bound`."
        ) from None


def _document(body: Any) -> Document:
    if not isinstance(body, dict) or not isinstance(body.get("schema"), str):
        raise InvalidCertificate(
            "This JSON file is no certificate: it has no `schema`. Make one with `--certificate` of `sdplip check` or `bound`."
        )
    schema = body["schema"]
    if schema != SCHEMA:
        old = schema.startswith(OLD)
        why = (
            "of an older version, which trusted more than it should" if old else f"of schema {schema[:60]!r}"
        )
        raise InvalidCertificate(
            f"The certificate is {why}; this version reads {SCHEMA}. Make it anew from the weight file."
        )
    extra = set(body) - {"schema", "made", "file", "claims"}
    if extra:
        raise ValueError(f"unknown field {sorted(extra)[0]!r}")
    file, claims = body["file"], body["claims"]
    if set(file) != {"sha256", "reading"} or not isinstance(claims, list) or not claims:
        raise ValueError("`file` needs sha256 and reading, `claims` at least one claim")
    if not isinstance(file["sha256"], str) or not re.fullmatch("[0-9a-f]{64}", file["sha256"]):
        raise ValueError("`sha256` needs 64 hexadecimal digits")
    entries = []
    for item in claims:
        if set(item) != {"claim", "proof"} or not isinstance(item["claim"], dict):
            raise ValueError("a claim needs `claim` and `proof` and nothing else")
        entries.append(Entry(item["claim"], _to_proof(item["proof"])))
    made = body.get("made", {})
    if not isinstance(file["reading"], dict) or not isinstance(made, dict):
        raise TypeError("`reading` and `made` must be objects")
    return Document(
        file["sha256"], file["reading"], tuple(entries), {str(k): str(v)[:40] for k, v in made.items()}
    )


def _to_proof(body: Any) -> Proof:
    if (
        not isinstance(body, dict)
        or set(body) - {"rule", "data", "parts"}
        or not isinstance(body["rule"], str)
    ):
        raise ValueError("a proof needs `rule`, and may have `data` and `parts`")
    data, parts = body.get("data", {}), body.get("parts", [])
    if not isinstance(data, dict) or not isinstance(parts, list):
        raise TypeError("`data` must be an object and `parts` a list")
    return Proof(body["rule"], data, tuple(map(_to_proof, parts)))


def _measured(raw: bytes) -> tuple[int, int]:
    """How deep brackets outside of texts nest, and at least the number of values, before anything is made of them."""
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")  # what is left of quotes begins and ends texts
    inside, depth, deepest, count = 0, 0, 0, 0
    for at in range(0, len(raw), PIECE):
        piece = np.frombuffer(raw, np.uint8, min(PIECE, len(raw) - at), at)
        quotes = np.cumsum(piece == 0x22) + inside
        inside = int(quotes[-1]) % 2
        piece = np.where(quotes % 2 == 1, 0, piece)
        up = (piece == 0x5B) | (piece == 0x7B)
        steps = np.cumsum(up.astype(np.int64) - ((piece == 0x5D) | (piece == 0x7D)))
        deepest, depth = max(deepest, depth + int(steps.max())), depth + int(steps[-1])
        count += int(up.sum()) + int((piece == 0x2C).sum()) + int((piece == 0x3A).sum())
    return deepest, count


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _malformed(path: str | os.PathLike[str], why: str) -> InvalidCertificate:
    return InvalidCertificate(f"`{path}` is malformed: {why}. Make it anew with `--certificate`.")

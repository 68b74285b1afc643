"""A certificate in words, without the files that it is about."""

import os

from sdplip.kernel.proof import Proof
from sdplip.verifier.claim import claim_of
from sdplip.verifier.document import read

ROOM = 12
"""Lines of a proof that are shown."""


def show_lines(certificate: str | os.PathLike[str]) -> list[str]:
    """Every claim and the tree of rules behind it. Nothing is proven here, and the text says so.

    Raises:
        InvalidCertificate: the file is no certificate.
    """
    document = read(certificate)
    made = ", ".join(f"{name} {version}" for name, version in document.made.items())
    count = len(document.entries)
    lines = [
        f"{certificate}: {count} claim{'s' * (count != 1)} about the file with SHA-256 {document.sha256[:64]}"
    ]
    lines += [f"says it was made by {made}"] if made else []
    lines += [f"read as: {how}" for how in reading_words(document.reading)]
    for number, entry in enumerate(document.entries, 1):
        lines.append(f"{number}. CLAIMED: {claim_of(entry.claim).words()}")
        tree = _tree(entry.proof, "   by ")
        lines += tree[:ROOM] + ([f"   ... and {len(tree) - ROOM} more rules"] if len(tree) > ROOM else [])
    return [
        printable(line) for line in (*lines, "Nothing above is checked. Prove it: sdplip verify CERT FILE")
    ]


def printable(text: str) -> str:
    """One line of text, in which nothing moves the cursor, ends the line or is no character: files may hold any text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reading_words(reading: object) -> list[str]:
    """The assumptions of a document, plainly."""
    if not isinstance(reading, dict):
        return []
    return [
        f"{str(key)[:40]} = {str(value)[:120]}"
        for key, value in reading.items()
        if value not in (None, [], {}, "")
    ]


def _tree(proof: Proof, head: str) -> list[str]:
    data = ", ".join(f"{key} {_size(value)}" for key, value in proof.data.items())
    lines = [f"{head}{proof.rule[:40]}" + (f" ({data[:160]})" if data else "")]
    for part in proof.parts:
        lines += _tree(part, " " * 3 + head)
    return lines


def _size(value: object) -> str:
    if isinstance(value, list):
        return f"[{len(value)}]"
    return str(value)[:40]

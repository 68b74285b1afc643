"""The certificate file of layers one by one: what `sdplip check` and `sdplip scale` hand out."""

import os
from collections.abc import Iterable

from sdplip import __version__
from sdplip.kernel.condition import Certificate
from sdplip.verifier.condition import condition_claim, condition_proof
from sdplip.verifier.document import Document, Entry, digest, write


def save_layers(
    path: str | os.PathLike[str],
    file: str | os.PathLike[str],
    certificates: Iterable[tuple[str, Certificate]],
    *,
    transpose: bool | None = None,
) -> None:
    """Writes the claims of `certificates`, each with the name of its layer in `file`.

    Args:
        transpose: how `file` was read; None is what the names of its arrays say.
    """
    entries = tuple(
        Entry(condition_claim(name, found).to_json(), condition_proof(found)) for name, found in certificates
    )
    reading = {"kind": "layers"} | ({} if transpose is None else {"transpose": transpose})
    write(path, Document(digest(file), reading, entries), __version__)

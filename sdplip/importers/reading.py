"""A checkpoint becomes named arrays."""

import os
from pathlib import Path

from sdplip.errors import UnreadableFile
from sdplip.importers.layer import State
from sdplip.weights.read import ARRAYS
from sdplip.weights.sniff import FORMS, sniff


def state_of(path: str | os.PathLike[str]) -> State:
    """The arrays of a state dict by name; nothing is unpickled.

    Raises:
        UnreadableFile: missing, damaged, a pickle, or a format without named arrays.
    """
    path = Path(path)
    form = sniff(path)
    if form not in ARRAYS or form in ("npy", "nnet", "csv"):
        raise UnreadableFile(
            f"`{path}` is {FORMS[form]}, which holds no state dict. Pass .pt, .pth, .safetensors or .npz."
        )
    return ARRAYS[form](path)

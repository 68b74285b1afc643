"""NumPy's .npy and .npz, never with pickles."""

from pathlib import Path

import numpy as np

from sdplip.errors import UnreadableFile
from sdplip.weights.damaged import refuse_damaged


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, or `{"": array}` of an .npy.

    Raises:
        UnreadableFile: truncated, damaged, or with an object array, which only unpickling could read.
    """
    with refuse_damaged(path, "a NumPy file"), path.open("rb") as file:  # NumPy leaves a damaged archive open
        try:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            with loaded:
                return {name: loaded[name] for name in loaded.files}
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise UnreadableFile(
                f"`{path}` holds an object array, a pickle, and reading it could execute code. Load it where you trust it"
                " and save one plain array a layer: `numpy.savez(file, W0=W[0], W1=W[1])`."
            ) from None

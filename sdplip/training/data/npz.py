"""Data sets as one .npz file: `train_images`, `train_labels`, `test_images`, `test_labels`."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from sdplip.errors import InvalidData, UnreadableFile
from sdplip.weights import npy

KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def opened(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the file. Nothing is unpickled.

    Raises:
        InvalidData: no such file.
        UnreadableFile: a truncated file, or one with objects.
    """
    if not path.is_file():
        raise InvalidData(
            f"The data file `{path}` does not exist. Pass a .npz with the keys {', '.join(KEYS)}."
        )
    try:
        return npy.arrays(path)
    except UnreadableFile as error:
        if "object array" in str(error):
            raise UnreadableFile(
                f"`{path}` holds an object array, a pickle, and reading it could execute code. Save images of one size as one"
                " uint8 array."
            ) from None
        raise


def images_and_labels(found: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The four arrays, the images as `(n, channels, height, width)` and the labels as vectors.

    Raises:
        InvalidData: missing keys, images that are not bytes, or of a shape that is not clear.
    """
    if not any(key.startswith("train") for key in found) and {"images", "test_images"} & set(found):
        raise InvalidData(
            f"`{path}` holds images to test on alone ({', '.join(f'`{key}`' for key in found)}). To train, add `train_images` and"
            " `train_labels`; to certify a network on them, `sdplip certify MODEL --data FILE.npz`."
        )
    missing = [key for key in KEYS if key not in found]
    if missing:
        raise InvalidData(
            f"`{path}` has the arrays {', '.join(f'`{key}`' for key in found)}, but {', '.join(f'`{key}`' for key in missing)}"
            f" {'is' if len(missing) == 1 else 'are'} missing. Save it with `numpy.savez_compressed(file, train_images=...)`."
        )
    return {
        key: _images(found[key], f"`{key}` of `{path}`") if key.endswith("images") else _vector(found[key])
        for key in KEYS
    }


def _images(images: Shaped[np.ndarray, "..."], source: str) -> UInt8[np.ndarray, "n c h w"]:
    """Channels first, whichever way the file has them: an axis of length 1 or 3."""
    if images.dtype != np.uint8:
        nan = images.dtype.kind == "f" and bool(np.isnan(images).any())
        raise InvalidData(
            f"{source} has type {images.dtype}{' and NaN in it' if nan else ''}, but bytes (uint8, 0 to 255) are needed."
            " From values in [0, 1]: `(255 * images).round().astype(numpy.uint8)`."
        )
    if images.ndim == 3:
        return images[:, None]
    last = images.ndim == 4 and images.shape[3] in (1, 3)
    first = images.ndim == 4 and images.shape[1] in (1, 3)
    if last == first:
        raise InvalidData(
            f"{source} has the shape {images.shape}. (n, height, width), (n, height, width, channels) or (n, channels, height,"
            " width) is needed, with 1 or 3 channels."
        )
    return images.transpose(0, 3, 1, 2) if last else images


def _vector(labels: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels

"""Images of a claim: .npz with `images` and `labels` or `masks`, or .npy of images alone. NumPy only."""

import hashlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdplip.errors import UnreadableFile
from sdplip.shapes import Float, Int, Shaped
from sdplip.stored import widened

NAMES = (("images", "labels"), ("test_images", "test_labels"), ("x_test", "y_test"), ("x", "y"))
"""Names of images and labels in a .npz, the first pair that is there."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images as they are stored, uint8 or floating point, and their labels if there are any."""

    x: Shaped[np.ndarray, "n *pixels"]
    labels: Int[np.ndarray, " n"] | None

    def entering(
        self, where: Int[np.ndarray, " batch"], arithmetic: str
    ) -> Float[np.ndarray, "batch inputs"]:
        """The images as they enter the network: bytes divided by 255 and rounded once to the format of the pass."""
        x = self.x[where].reshape(len(where), -1)
        dtype = np.float32 if arithmetic == "float32" else np.float64
        found = x.astype(dtype) / dtype(255) if x.dtype == np.uint8 else x.astype(dtype)
        return widened(found)


def image_digest(row: Float[np.ndarray, " inputs"]) -> str:
    """SHA-256 of one image as it enters the network: little-endian doubles."""
    return hashlib.sha256(np.ascontiguousarray(row, "<f8").tobytes()).hexdigest()


def mask_digest(mask: Int[np.ndarray, " pixels"]) -> str:
    """SHA-256 of one mask: little-endian whole numbers of 8 bytes."""
    return hashlib.sha256(np.ascontiguousarray(mask, "<i8").tobytes()).hexdigest()


def read_images(path: str | os.PathLike[str]) -> Images:
    """The images and labels of a file; nothing in it is unpickled.

    Raises:
        UnreadableFile: missing, damaged, no images, labels that do not fit.
    """
    path = Path(path)
    arrays = _arrays(path, _wanted)
    if isinstance(arrays, np.ndarray):
        return Images(_checked(arrays, path), None)
    x, *rest = arrays.values()
    labels = rest[0] if rest else None
    if labels is not None and (labels.shape != x.shape[:1] or labels.dtype.kind not in "iu"):
        raise UnreadableFile(
            f"The labels in `{path}` must be {len(x)} whole numbers, but are {labels.dtype} {labels.shape}."
        )
    return Images(_checked(x, path), None if labels is None else labels.astype(np.int64))


def read_masks(path: str | os.PathLike[str]) -> Int[np.ndarray, "n *pixels"]:
    """The array `masks` of a .npz: the class of each pixel of each image, -1 where it does not count.

    Raises:
        UnreadableFile: missing, damaged, no masks, other numbers.
    """
    path = Path(path)
    arrays = _arrays(path, _masks)
    masks = arrays if isinstance(arrays, np.ndarray) else arrays["masks"]
    if isinstance(arrays, np.ndarray) or masks.dtype.kind not in "iu" or masks.ndim < 2 or not masks.size:
        raise UnreadableFile(
            f"`{path}` must hold `masks`, whole numbers (n, *pixels), but holds {masks.dtype} {masks.shape}. Save images and masks with"
            " `numpy.savez(file, images=..., masks=...)`."
        )
    if int(masks.min()) < -1 or int(masks.max()) >= 2**31:
        raise UnreadableFile(
            f"Masks in `{path}` hold numbers that are no classes, from {masks.min()} to {masks.max()}."
        )
    return masks.astype(np.int64)


def _arrays(path: Path, wanted: Callable[[list[str]], tuple[str, ...]]) -> np.ndarray | dict[str, np.ndarray]:
    """What a .npy holds, or the wanted arrays of a .npz."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return {name: found[name] for name in wanted(found.files)}
    except FileNotFoundError:
        raise UnreadableFile(f"There is no file `{path}`. Check the path.") from None
    except (
        OSError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        MemoryError,
        NotImplementedError,
        KeyError,
    ) as error:
        raise UnreadableFile(
            f"`{path}` cannot be read as images: {str(error)[:100]}. Save them with `numpy.savez(file, images=..., labels=...)`."
        ) from None


def _masks(names: list[str]) -> tuple[str, ...]:
    if "masks" not in names:
        raise KeyError(f"it holds {', '.join(names[:5]) or 'nothing'}, not `masks`")
    return ("masks",)


def _wanted(names: list[str]) -> tuple[str, ...]:
    for images, labels in NAMES:
        if images in names:
            return (images, labels) if labels in names else (images,)
    raise KeyError(f"it holds {', '.join(names[:5]) or 'nothing'}, not `images` and `labels`")


def _checked(x: np.ndarray, path: Path) -> np.ndarray:
    if x.ndim < 2 or not x.size or not (x.dtype == np.uint8 or x.dtype.kind == "f"):
        raise UnreadableFile(
            f"Images in `{path}` must be uint8 or floating point (n, ...), but are {x.dtype} {x.shape}."
        )
    if x.dtype.kind == "f" and (x.dtype.itemsize > 8 or not np.isfinite(x).all()):
        raise UnreadableFile(f"Images in `{path}` hold NaN or infinity, or more than double precision.")
    return x

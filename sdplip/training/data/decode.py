"""Encoded images (PNG, JPEG) to bytes, with Pillow."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sdplip.errors import InvalidData

GREY = ("L", "1")
COLOUR = ("RGB", "P", "CMYK", "YCbCr")


def decode(
    encoded: Sequence[bytes | None], source: str, *, channels: int | None = None
) -> UInt8[np.ndarray, "n c h w"]:
    """The pixels of every image, all of one size.

    Args:
        encoded: the contents of image files.
        source: what messages call them.
        channels: 1 or 3; by default 1 if every image is grey. With 3, a grey image gets three equal channels.

    Raises:
        InvalidData: no image, a damaged or missing one, one of another size, with more than 8 bits or transparency, or a
            colour image where grey ones are due.
    """
    if not len(encoded):
        raise InvalidData(f"{source} holds no image. Download the data set again.")
    if channels is None:
        grey = all(_open(blob, i, source).mode in GREY for i, blob in enumerate(encoded))
        channels = 1 if grey else 3
    width, height = _open(encoded[0], 0, source).size
    pixels = np.empty((len(encoded), height, width, channels), np.uint8)
    for i, blob in enumerate(encoded):
        image = _open(blob, i, source)
        if image.size != (width, height):
            raise InvalidData(
                f"{source} has images of different sizes: {width} x {height} first, but image {i} is"
                f" {image.size[0]} x {image.size[1]}. Resize them to one size."
            )
        pixels[i] = _pixels(image, channels, i, source)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _open(blob: bytes | None, index: int, source: str) -> Image.Image:
    """The image, its pixels not decoded yet."""
    if blob is None:
        raise InvalidData(
            f"{source} holds no bytes for image {index}. Save the images themselves, not their paths."
        )
    try:
        return Image.open(BytesIO(blob))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise _damaged(index, source) from None


def _pixels(image: Image.Image, channels: int, index: int, source: str) -> UInt8[np.ndarray, "h w c"]:
    if image.mode not in (GREY if channels == 1 else GREY + COLOUR):
        raise InvalidData(
            f"Image {index} of {source} has the mode {image.mode}, but {'8-bit grey' if channels == 1 else '8-bit colour'} is"
            " needed. Convert it, or point at the right data set."
        )
    try:
        plain = image.convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError):
        raise _damaged(index, source) from None
    return np.asarray(plain).reshape(image.height, image.width, channels)


def _damaged(index: int, source: str) -> InvalidData:
    return InvalidData(
        f"Image {index} of {source} cannot be decoded: its bytes are damaged. Download the data set again."
    )

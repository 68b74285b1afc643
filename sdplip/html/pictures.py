"""Images in a page: PNG inside of it, by Pillow."""

import base64
from io import BytesIO

import numpy as np
from jaxtyping import Shaped

from sdplip.html.elements import Node, tag


def picture(image: Shaped[np.ndarray, "channels height width"], words: str) -> Node:
    """One image: bytes, or floating point in [0, 1]; one channel is grey, three are colours, of others the first is shown."""
    from PIL import Image

    pixels = image if image.dtype == np.uint8 else (255 * np.clip(image, 0, 1)).round().astype(np.uint8)
    shown = pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]
    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(shown)).save(stream, "PNG", optimize=True)
    encoded = base64.b64encode(stream.getvalue()).decode("ascii")
    return tag("img", src=f"data:image/png;base64,{encoded}", alt=words)

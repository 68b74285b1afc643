"""The small dense matrix of a convolution as it runs: the oracle of every law about convolutions."""

from dataclasses import replace
from itertools import product
from math import prod

import numpy as np
from jaxtyping import Float

from sdplip.convolution.layout import layout
from sdplip.errors import UnsupportedConvolution
from sdplip.geometry import Geometry


def dense_matrix(
    K: Float[np.ndarray, "out channels *taps"], geometry: Geometry, image_size: tuple[int, ...] | None = None
) -> Float[np.ndarray, "outputs inputs"]:
    r"""Matrix $C$ of the convolution on a flattened image: channels first, then pixels in C order.

    `image_size` overrides that of `geometry`; one of the two must be given. Written as plain loops over output pixels
    and taps, so that one can see that it is right.

    Raises:
        UnsupportedConvolution: no image size, an empty output, or a padding mode that no theorem covers.
    """
    axes = layout(K, replace(geometry, image_size=image_size or geometry.image_size))
    size, h, groups = axes.output_size, axes.image_size, axes.groups
    if size is None or h is None:
        raise UnsupportedConvolution(
            "A dense matrix needs an `image_size`, but none is known. Pass `image_size`."
        )
    m, n = K.shape[0] // groups, K.shape[1]
    C = np.zeros((groups * m, *size, groups * n, *h), K.dtype)
    for v, tap in product(product(*map(range, size)), product(*map(range, axes.taps))):
        places = zip(v, axes.stride, tap, axes.dilation, axes.before, strict=True)
        u = [a * s + b * d - p for a, s, b, d, p in places]
        if axes.circular:
            u = [a % b for a, b in zip(u, h, strict=True)]
        if all(0 <= a < b for a, b in zip(u, h, strict=True)):
            for g in range(groups):
                rows, columns = slice(g * m, (g + 1) * m), slice(g * n, (g + 1) * n)
                C[rows, *v, columns, *u] += K[rows, :, *tap]
    return C.reshape(groups * m * prod(size), groups * n * prod(h))

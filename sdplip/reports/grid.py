"""At which frequencies a convolution is looked at when nobody said how large its images are."""

from math import prod

from sdplip.reports.layer import Layer

POINTS = (64, 32, 16)
"""Frequencies on each image axis: the first of these that is cheap enough."""

CHEAP = 2e7
"""Number of frequencies times channels cubed that one iteration of a solver may take."""


def frequency_grid(layer: Layer) -> tuple[int, ...]:
    """The image size of the layer where it is known, else as many frequencies as are cheap; a multiple of the stride."""
    geometry, taps = layer.geometry, layer.weight.array.shape[2:]
    strides = geometry.stride
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, taps, strict=True)]
    columns = layer.channels * (prod(strides) if layer.form == "linear" else 1)
    cheap = (n for n in POINTS if n ** len(taps) / 2 * columns**3 <= CHEAP)
    points = next(cheap, POINTS[-1])
    size = geometry.image_size or tuple(max(points, 2 * r + 1) for r in reach)
    return tuple(-(-n // s) * s for n, s in zip(size, strides, strict=True))

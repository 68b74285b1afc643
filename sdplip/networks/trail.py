"""What a loader has read so far: the layers, and the shape of one sample behind them."""

from dataclasses import dataclass, field
from math import prod

import numpy as np
from jaxtyping import Float

from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.networks.convolution import Convolution
from sdplip.networks.diagonal import Diagonal
from sdplip.networks.network import Affine, Layer
from sdplip.networks.pooling import AveragePool, MaxPool


@dataclass
class Trail:
    """`shape` is that of one sample, `(channels, *pixels)` of images; None where it is not known."""

    shape: tuple[int, ...] | None
    layers: list[Layer] = field(default_factory=list)

    def add(self, layer: Layer) -> None:
        """A layer that keeps the shape."""
        self.layers.append(layer)

    def affine(self, W: Float[np.ndarray, "m n"], b: Float[np.ndarray, " m"] | None) -> None:
        """A matrix on the last axis, which must be the only one.

        Raises:
            InvalidWeight: images that are not flattened.
        """
        if self.shape is not None and prod(self.shape) != max(self.shape):
            raise InvalidWeight(
                f"A matrix of shape {W.shape} acts on samples of shape {self.shape}, row by row. Flatten the images first."
            )
        self.layers.append(Affine(W, b))
        self.shape = (len(W),)

    def convolution(
        self, K: Float[np.ndarray, "out in *taps"], geometry: Geometry, b: np.ndarray | None
    ) -> None:
        """A convolution on the image so far."""
        channels, size = self.image(len(K.shape) - 2, "A convolution")
        layer = Convolution(K, Geometry(**{**vars(geometry), "image_size": size}), b)
        if layer.channels != channels:
            raise InvalidWeight(f"A convolution of {layer.channels} channels is given {channels}.")
        self.layers.append(layer)
        self.shape = (len(K), *layer.output_size)

    def average(
        self, window: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], count: bool
    ) -> None:
        """The mean over windows."""
        channels, size = self.image(len(window), "Average pooling")
        pool = AveragePool(channels, size, window, stride, padding, count)
        self.layers.append(pool)
        self.shape = (channels, *pool.output_size)

    def maximum(self, window: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]) -> None:
        """The maximum over windows."""
        channels, size = self.image(len(window), "Maximum pooling")
        pool = MaxPool(channels, size, window, stride, padding)
        self.layers.append(pool)
        self.shape = (channels, *pool.output_size)

    def average_all(self, axes: int) -> None:
        """The mean of every channel."""
        _, size = self.image(axes, "Average pooling")
        self.average(size, size, (0,) * axes, True)

    def normalise(self, layer: Diagonal) -> None:
        """Constant factors, one for each number of the sample."""
        self.layers.append(layer)

    def negate(self) -> None:
        """The sample times -1.

        Raises:
            InvalidWeight: its length is not known.
        """
        last = self.layers[-1] if self.layers else None
        if self.shape is None and not isinstance(last, Affine):
            raise InvalidWeight(
                "A difference of branches needs samples of known shape: an ONNX graph must state it."
            )
        width = prod(self.shape) if self.shape is not None else last.outputs  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
        self.layers.append(Diagonal(np.full(width, -1.0)))

    def flatten(self) -> None:
        """The same numbers in a row."""
        self.shape = None if self.shape is None else (prod(self.shape),)

    def image(self, axes: int, what: str) -> tuple[int, tuple[int, ...]]:
        """Channels and pixels of the image so far.

        Raises:
            InvalidWeight: the sample is no image of that many axes.
        """
        if self.shape is None or len(self.shape) != axes + 1:
            known = "not known" if self.shape is None else f"{self.shape}"
            raise InvalidWeight(
                f"{what} needs samples of shape (channels, {axes} image axes), but their shape is {known}. Pass the shape of the"
                " input, `input_shape=(channels, height, width)`; an ONNX graph must state it."
            )
        return self.shape[0], self.shape[1:]

"""How a convolution moves over its image, and which of these ways a theorem covers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index

from sdplip.errors import UnsupportedConvolution

Axes = int | tuple[int, ...]
"""One number for every image axis, or one number an axis."""


@dataclass(frozen=True)
class Geometry:
    """Stride, padding, dilation, groups and, where known, the image size of a 1-D, 2-D or 3-D convolution.

    Attributes:
        stride: step of the output grid on each axis.
        padding_mode: "zeros" (any amount of padding, none included) or "circular".
        padding: pixels added on both sides of each axis; None is "same", `dilation * (kernel - 1)` in all.
        dilation: distance between kernel taps on each axis.
        groups: number of channel groups, as in torch.
        image_size: input height, width, ... in pixels, or None for "every image size". With circular padding the stride must
            divide it (elsewhere the last and the first output would overlap, which no periodic symbol describes).
    """

    stride: Axes = 1
    padding_mode: str = "zeros"
    padding: Axes | None = None
    dilation: Axes = 1
    groups: int = 1
    image_size: tuple[int, ...] | None = None

    def expand(self, kernel_shape: Sequence[int]) -> "ExpandedGeometry":
        """The same geometry with every per-axis field a tuple, checked against a kernel of shape `(out, in / groups, *taps)`.

        Raises:
            UnsupportedConvolution: no theorem covers this padding mode, or the numbers contradict the kernel.
        """
        out, taps = kernel_shape[0], tuple(kernel_shape[2:])
        axes = len(taps)
        if self.padding_mode not in ("zeros", "circular"):
            raise UnsupportedConvolution(_why_not(self.padding_mode))
        if self.groups < 1 or out % self.groups:
            raise UnsupportedConvolution(
                f"`groups` must divide the {out} output channels, but is {self.groups}. Pass the `groups` of the layer."
            )
        stride = _per_axis("stride", self.stride, axes, 1)
        dilation = _per_axis("dilation", self.dilation, axes, 1)
        padding = None if self.padding is None else _per_axis("padding", self.padding, axes, 0)
        image_size = None if self.image_size is None else _per_axis("image_size", self.image_size, axes, 1)
        reach = tuple(d * (k - 1) for d, k in zip(dilation, taps, strict=True))
        if (
            self.padding_mode == "circular"
            and padding
            and any(2 * p > r for p, r in zip(padding, reach, strict=True))
        ):
            raise UnsupportedConvolution(
                f"Circular `padding` {padding} of a kernel that reaches {reach} pixels repeats output pixels, which no"
                " scaling of the kernel covers. Use at most half the reach on each side."
            )
        if (
            self.padding_mode == "circular"
            and image_size
            and any(h % s for h, s in zip(image_size, stride, strict=True))
        ):
            raise UnsupportedConvolution(
                f"With circular padding the stride must divide the image, but `stride` is {stride} and `image_size` is"
                f" {image_size}. Pad or crop the image to a multiple of the stride."
            )
        if padding and image_size:
            axes_of = zip(image_size, padding, reach, strict=True)
            if any(h + 2 * p <= r for h, p, r in axes_of):
                raise UnsupportedConvolution(
                    f"No output pixel is left: a kernel that reaches {reach} pixels does not fit an image of {image_size} with `padding`"
                    f" {padding} on both sides. Use larger images, or more padding."
                )
        return ExpandedGeometry(stride, self.padding_mode, padding, dilation, self.groups, image_size)


@dataclass(frozen=True)
class ExpandedGeometry(Geometry):
    """A geometry that fits a certain kernel: every per-axis field is a tuple. `Geometry.expand` makes it."""

    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] | None = None
    dilation: tuple[int, ...] = ()

    def pads(self, kernel_shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Pixels added before and after each image axis."""
        reach = [d * (k - 1) for d, k in zip(self.dilation, kernel_shape[2:], strict=True)]
        if self.padding is None:
            return tuple((r // 2, r - r // 2) for r in reach)
        return tuple((p, p) for p in self.padding)


def _per_axis(name: str, value: Axes, axes: int, least: int) -> tuple[int, ...]:
    try:  # whole numbers of any kind, NumPy's too
        numbers = tuple(map(index, value if isinstance(value, Iterable) else (value,) * axes))
    except TypeError:
        numbers = ()
    if len(numbers) != axes or any(v < least for v in numbers):
        raise UnsupportedConvolution(
            f"`{name}` must be a whole number of at least {least}, or {axes} of them (one for each image axis), but is {value}."
        )
    return numbers


def _why_not(mode: str) -> str:
    if mode in ("reflect", "replicate"):
        return (
            f'Padding mode "{mode}" is refused: it repeats border pixels, so the layer can stretch distances although'
            " W^T W <= T holds for the kernel (factors up to 1.8 were measured). Use zero or circular padding."
        )
    return f'Padding mode "{mode}" is not known. Use "zeros" (any amount of padding, none included) or "circular".'

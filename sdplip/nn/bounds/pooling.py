"""Rules of pooling: torch's, with the exact effect of overlapping windows, and ours. Partial windows are refused."""

from math import prod
from typing import Any

from torch import nn

from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound, quotient_above, root_above, shown
from sdplip.nn.bounds.weights import effective, exact, window_overlap, window_square
from sdplip.nn.pooling import (
    Center,
    CenterNorm,
    FirstChannels,
    GlobalL2Pool,
    L2Pool1d,
    L2Pool2d,
    L2Pool3d,
    ScaledAvgPool1d,
    ScaledAvgPool2d,
    ScaledAvgPool3d,
    root_below,
)

AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
POWERS = (nn.LPPool1d, nn.LPPool2d, nn.LPPool3d)


@lipschitz.register(*MAXIMA)
def _(module: nn.MaxPool2d, context: Context) -> Bound:
    _refuse_partial_windows(module, context)
    if module.return_indices:
        raise context.refuse(module, "`return_indices=True` makes the output a tuple. Leave it out.")
    axes = MAXIMA.index(lipschitz.registered(module)) + 1  # type: ignore[arg-type]
    windows = (_each(v, axes) for v in (module.kernel_size, module.stride, module.dilation))
    return _overlap_bound(prod(window_overlap(*axis) for axis in zip(*windows, strict=True)))


@lipschitz.register(*AVERAGES)
def _(module: nn.AvgPool2d, context: Context) -> Bound:
    _refuse_partial_windows(module, context)
    axes = AVERAGES.index(lipschitz.registered(module)) + 1  # type: ignore[arg-type]
    size, stride, padding = (_each(v, axes) for v in (module.kernel_size, module.stride, module.padding))
    override = None if axes == 1 else module.divisor_override
    if any(padding) and not module.count_include_pad and not override:
        raise context.refuse(
            module,
            "`count_include_pad=False` divides by fewer pixels at the border. Use `count_include_pad=True`.",
        )
    divisor = override or prod(size)
    square = prod(window_square(k, s) for k, s in zip(size, stride, strict=True))
    value = quotient_above(root_above(float(square)), float(abs(divisor)))
    return Bound(value, f"window sums have norm sqrt({square}) and are divided by {divisor}")


@lipschitz.register(*POWERS)
def _(module: nn.LPPool2d, context: Context) -> Bound:
    _refuse_partial_windows(module, context)
    p = float(module.norm_type)
    if p < 2 or (p % 2 and p != float("inf")):
        raise context.refuse(
            module,
            f"for `norm_type` {module.norm_type} torch's powers have no finite slope at 0. Use 2, or another even number.",
        )
    axes = POWERS.index(lipschitz.registered(module)) + 1  # type: ignore[arg-type]
    size = _each(module.kernel_size, axes)
    stride = size if module.stride is None else _each(module.stride, axes)
    return _overlap_bound(prod(window_overlap(k, s, 1) for k, s in zip(size, stride, strict=True)))


@lipschitz.register(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
def _(module: nn.AdaptiveAvgPool2d, context: Context) -> Bound:
    windows = _adaptive_windows(module, context)
    if windows is None:
        return Bound(1.0, "the mean of an image has norm 1 over the root of its number of pixels, at most 1")
    pixels = prod(windows)
    return Bound(quotient_above(1.0, pixels**0.5), f"means of disjoint windows of {pixels} pixels")


@lipschitz.register(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
def _(module: nn.AdaptiveMaxPool2d, context: Context) -> Bound:
    if module.return_indices:
        raise context.refuse(module, "`return_indices=True` makes the output a tuple. Leave it out.")
    _adaptive_windows(module, context)
    return Bound(1.0, "maxima of disjoint windows")


@lipschitz.register(nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)
def _(module: nn.Module, context: Context) -> Bound:
    raise context.refuse(module, "its windows are random and overlap. Use `nn.MaxPool2d`.")


@lipschitz.register(nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d)
def _(module: nn.Module, context: Context) -> Bound:
    raise context.refuse(
        module, "it needs the indices of a pooling as a second input. Use `nn.PixelShuffle`."
    )


@lipschitz.register(ScaledAvgPool1d, ScaledAvgPool2d, ScaledAvgPool3d)
def _(module: ScaledAvgPool2d, context: Context) -> Bound:  # noqa: ARG001
    pixels = prod(module.kernel_size)
    assert root_below(pixels) ** 2 <= pixels
    return Bound(1.0, "sums of disjoint windows over the root of their size: orthonormal rows")


@lipschitz.register(L2Pool1d, L2Pool2d, L2Pool3d)
def _(module: L2Pool2d, context: Context) -> Bound:  # noqa: ARG001
    return Bound(1.0, "norms of disjoint windows")


@lipschitz.register(Center)
def _(module: Center, context: Context) -> Bound:  # noqa: ARG001
    return Bound(1.0, "orthogonal projection onto mean 0")


@lipschitz.register(GlobalL2Pool)
def _(module: GlobalL2Pool, context: Context) -> Bound:  # noqa: ARG001
    return Bound(1.0, "norms of disjoint channels")


@lipschitz.register(CenterNorm)
def _(module: CenterNorm, context: Context) -> Bound:
    effective(module, "bias", context)
    largest = float(abs(exact(module.scale().detach(), module, "weight", context)).max())
    return Bound(largest, f"orthogonal projection onto mean 0, times at most {shown(largest)}")


@lipschitz.register(FirstChannels)
def _(module: FirstChannels, context: Context) -> Bound:  # noqa: ARG001
    return Bound(1.0, "selecting channels is a projection")


def _overlap_bound(overlap: int) -> Bound:
    if overlap == 1:
        return Bound(1.0, "disjoint windows, each 1-Lipschitz")
    return Bound(root_above(float(overlap)), f"one pixel lies in up to {overlap} windows, each 1-Lipschitz")


def _refuse_partial_windows(module: nn.MaxPool2d | nn.AvgPool2d | nn.LPPool2d, context: Context) -> None:
    if module.ceil_mode:
        raise context.refuse(
            module,
            "`ceil_mode=True` makes partial windows at the border. Use `ceil_mode=False`, and pad or crop the image.",
        )


def _adaptive_windows(
    module: nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d, context: Context
) -> tuple[int, ...] | None:
    """Size of the windows; None if the image is pooled to one pixel and its size is not known."""
    axes = int(_axes_of(module))
    out = _each(module.output_size, axes)
    if context.input_shape is None:
        if all(o == 1 for o in out):
            return None
        raise context.refuse(
            module,
            f"for `output_size` {out} the windows depend on the image, whose size is not known. Pass `input_shape`.",
        )
    image = context.input_shape[-axes:]
    out = tuple(h if o is None else o for o, h in zip(out, image, strict=True))
    if any(h % o for h, o in zip(image, out, strict=True)):
        raise context.refuse(
            module,
            f"`output_size` {out} does not divide the image {image}, so its windows overlap. Pad or crop the image.",
        )
    return tuple(h // o for h, o in zip(image, out, strict=True))


def _axes_of(module: nn.Module) -> str:
    cls = lipschitz.registered(module)
    assert cls is not None
    return cls.__name__[-2]


def _each(value: Any, axes: int) -> tuple[int, ...]:
    values: tuple[int, ...] = tuple(value) if isinstance(value, tuple | list) else (value,)
    return values * axes if len(values) == 1 else values

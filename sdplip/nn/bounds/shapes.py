"""Rules of modules that move entries, copy them, or add constants."""

from math import prod

from torch import nn

from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound, root_above
from sdplip.nn.bounds.weights import window_overlap

MOVES = (nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle)
CONSTANT_PADS = (
    nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d,
)  # fmt: skip
CIRCULAR_PADS = (nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d)
REPEATING_PADS = (
    nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d,
    nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d,
)  # fmt: skip


@lipschitz.register(*MOVES)
def _(module: nn.Module, context: Context) -> Bound:
    if (isinstance(module, nn.Flatten) and module.start_dim == 0) or (
        isinstance(module, nn.Unflatten) and module.dim == 0
    ):
        raise context.refuse(module, "axis 0 is the batch, whose samples must not be mixed. Use axis 1.")
    return Bound(1.0, "moves entries")


@lipschitz.register(*CONSTANT_PADS)
def _(module: nn.Module, context: Context) -> Bound:  # noqa: ARG001
    return Bound(1.0, "adds constants around the image")


@lipschitz.register(*CIRCULAR_PADS)
def _(module: nn.CircularPad2d, context: Context) -> Bound:
    """Torch pads at most one period on each side, so a pixel has at most two copies; one if the two sides do not meet."""
    sides = list(zip(module.padding[0::2], module.padding[1::2], strict=True))  # last axis first
    image = context.input_shape[::-1] if context.input_shape else (None,) * len(sides)
    copies = 1
    for (before, after), size in zip(sides, image, strict=False):
        before, after = max(before, 0), max(after, 0)
        together = size is not None and before + after <= size
        copies *= 2 if together and before + after else 1 + (before > 0) + (after > 0)
    return Bound(root_above(float(copies)), f"up to {copies} copies of a pixel")


@lipschitz.register(*REPEATING_PADS)
def _(module: nn.Module, context: Context) -> Bound:
    raise context.refuse(
        module,
        "reflection and replication repeat border pixels, which stretches distances. Use `nn.ZeroPad2d`.",
    )


@lipschitz.register(nn.Unfold, nn.Fold)
def _(module: nn.Unfold, context: Context) -> Bound:  # noqa: ARG001
    """Folding is the adjoint of unfolding, which copies every pixel once for each window that it lies in."""
    pairs = (
        (v, v) if isinstance(v, int) else v for v in (module.kernel_size, module.stride, module.dilation)
    )
    copies = prod(window_overlap(*axis) for axis in zip(*pairs, strict=True))
    return Bound(root_above(float(copies)), f"one pixel lies in up to {copies} windows")


@lipschitz.register(nn.Upsample)
def _(module: nn.Upsample, context: Context) -> Bound:
    factor, shape = module.scale_factor, context.input_shape
    if module.mode != "nearest" or factor is None:
        raise context.refuse(
            module,
            "only nearest-neighbour upsampling by a whole `scale_factor` has a rule. Use that, or `nn.PixelShuffle`.",
        )
    if not isinstance(factor, tuple) and shape is None:
        raise context.refuse(
            module, "the number of image axes is not known. Pass `input_shape`, or a tuple as `scale_factor`."
        )
    factors = factor if isinstance(factor, tuple) else (factor,) * (len(shape or ()) - 1)
    if any(f < 1 or f != int(f) for f in factors):
        raise context.refuse(module, f"`scale_factor` {factor} is not a whole number. Use a whole number.")
    copies = prod(int(f) for f in factors)
    return Bound(root_above(float(copies)), f"{copies} copies of each pixel")

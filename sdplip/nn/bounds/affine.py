"""Rules of torch's linear layers: dense, convolutions, transposed convolutions. Biases do not matter."""

from torch import nn

from sdplip.errors import UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.nn.blocked import Blocked
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.bounds.weights import convolution_bound, effective, matrix_bound
from sdplip.nn.circular import CircularConv2d

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


@lipschitz.register(nn.Linear)
def _(module: nn.Linear, context: Context) -> Bound:
    return matrix_bound(effective(module, "weight", context), f"the {_kind(module)} weight")


@lipschitz.register(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _(module: Convolution, context: Context) -> Bound:
    geometry = conv_geometry(module, None if context.input_shape is None else context.input_shape[1:])
    return convolution_bound(effective(module, "weight", context), geometry, f"the {_kind(module)} kernel")


@lipschitz.register(Blocked)
def _(module: Blocked, context: Context) -> Bound:
    """The same function as its layer."""
    context.check(module.layer, "layer", nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return context.bound(module.layer, "layer", context.input_shape)


@lipschitz.register(CircularConv2d)
def _(module: CircularConv2d, context: Context) -> Bound:
    """A convolution on images of one size, whatever the context knows."""
    geometry = conv_geometry(module, tuple(module.kernel_size))
    return convolution_bound(effective(module, "weight", context), geometry, f"the {_kind(module)} kernel")


@lipschitz.register(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _(module: Transposed, context: Context) -> Bound:
    """The adjoint of the convolution with the same weight, which maps its output images to its input images."""
    shape = context.output_shape(module)
    geometry = conv_geometry(module, None if shape is None else shape[1:])
    return convolution_bound(
        effective(module, "weight", context), geometry, f"the {_kind(module)} kernel of the adjoint"
    )


def conv_geometry(module: Convolution | Transposed, image_size: tuple[int, ...] | None = None) -> Geometry:
    """How a torch convolution moves over its image.

    Raises:
        UnsupportedConvolution: padding that is not with zeros was changed after the layer was built, when torch computed it.
    """
    if module.padding_mode != "zeros" and _built_padding(module) != list(
        module._reversed_padding_repeated_twice
    ):
        raise UnsupportedConvolution(
            f"its padding {module.padding} or dilation was changed after it was built, but torch pads by"
            f" {tuple(module._reversed_padding_repeated_twice)}, which it computed then. Build the layer anew."
        )
    padding = (
        {"same": None, "valid": 0}[module.padding]
        if isinstance(module.padding, str)
        else tuple(module.padding)
    )
    return Geometry(
        tuple(module.stride), module.padding_mode, padding, tuple(module.dilation), module.groups, image_size
    )


def _built_padding(module: Convolution | Transposed) -> list[int]:
    """Pixels before and after each axis, the last axis first, as torch computes them when it builds a layer."""
    if module.padding == "valid":
        return [0, 0] * len(module.kernel_size)
    if module.padding == "same":
        reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [side for r in reversed(reach) for side in (r // 2, r - r // 2)]
    assert isinstance(module.padding, tuple)
    return [p for p in reversed(module.padding) for _ in range(2)]


def _kind(module: nn.Module) -> str:
    return str(module.weight.dtype).removeprefix("torch.")  # pyright: ignore[reportAttributeAccessIssue]

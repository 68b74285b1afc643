"""Layers of `sdplip.nn` as plain data, with the numbers that forward multiplies with.

That package imports this one, so its classes are known by their full names here.
"""

from collections.abc import Callable
from math import prod
from typing import Any, cast

import numpy as np
from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.networks.convolution import Convolution
from sdplip.networks.diagonal import Diagonal
from sdplip.networks.groupsort import GroupSort
from sdplip.networks.linear import fits
from sdplip.networks.network import Affine
from sdplip.networks.residual import Residual
from sdplip.networks.torch_images import array
from sdplip.networks.trail import Trail

Append = Callable[[Trail, nn.Module], None]


def append_ours(trail: Trail, module: nn.Module, append: Append) -> bool:
    """Adds the layer; False if it is none of ours. `append` adds any module.

    Raises:
        InvalidWeight: an option that is not covered, or images whose size is not known.
    """
    rule = RULES.get(f"{type(module).__module__}.{type(module).__name__}")
    if rule is None:
        return False
    rule(trail, module, append)
    return True


def _sorting(trail: Trail, module: nn.Module, append: Append) -> None:  # noqa: ARG001
    if (trail.shape is not None and len(trail.shape) > 1) or module.dim not in (1, -1):
        raise InvalidWeight(
            f"`{type(module).__name__}` along axis {module.dim} of samples of shape {trail.shape} is not covered, only of"
            " vectors."
        )
    halves = type(module).__name__ == "MaxMin"
    trail.add(GroupSort(2, halves=True) if halves else GroupSort(cast(int, module.group_size)))


def _sum(trail: Trail, module: nn.Module, append: Append) -> None:
    inner = Trail(trail.shape)
    (branch,) = module.children()
    append(inner, branch)
    _add_branch(trail, inner)


def _residual(trail: Trail, module: Any, append: Append) -> None:
    """$x - W S \\sigma(W^\\top x + b)$ with the step $S$ as a layer of its own, so that no product is rounded."""
    _plain_skip(module)
    if module.training:
        raise InvalidWeight(f"`{type(module).__name__}` is in training mode. Call `module.eval()` first.")
    inner = Trail(trail.shape)
    W, step = array(module.weight), array(module.step())
    bias = None if module.bias is None else array(module.bias)
    if module.axes:
        channels, size = trail.image(module.axes, f"`{type(module).__name__}`")
        geometry = Geometry(**{**vars(module.geometry), "image_size": size})
        C = Convolution(W, geometry, bias)
        if C.channels != channels or not fits([C]):
            raise InvalidWeight(
                f"`{type(module).__name__}` on images of shape {trail.shape} is a matrix of {C.outputs} x {C.inputs}, too large"
                " to be formed, or does not fit. Bound it layer by layer: `sdplip.nn.lipschitz`."
            )
        inner.layers.append(C)
        inner.shape = (len(W), *C.output_size)
        back, pixels = C.matrix().T, prod(C.output_size)
    else:
        inner.affine(W, bias)
        back, pixels = W.T, 1
    append(inner, module.activation)
    inner.layers += [Diagonal(np.repeat(-step, pixels)), Affine(back)]
    inner.shape = trail.shape
    _add_branch(trail, inner)


def _plain_residual(trail: Trail, module: Any, append: Append) -> None:
    _plain_skip(module)
    inner = Trail(trail.shape)
    for part in (module.up, module.activation, module.down):
        append(inner, part)
    inner.layers.append(Diagonal(np.full(_width(inner), -1.0)))
    _add_branch(trail, inner)


def _plain_sandwich(trail: Trail, module: Any, append: Append) -> None:
    for part in (module.up, module.activation, module.down):
        append(trail, part)


def _head(trail: Trail, module: Any, append: Append) -> None:  # noqa: ARG001
    trail.affine(array(module.rows()), None if module.bias is None else array(module.bias))


def _normalise(trail: Trail, module: Any, append: Append) -> None:  # noqa: ARG001
    if trail.shape is None or trail.shape[0] != len(module.mean):
        raise InvalidWeight(
            f"`Normalise` of {len(module.mean)} channels is given samples of shape {trail.shape}. Pass the shape of the input,"
            " `input_shape=(channels, height, width)`."
        )
    pixels = prod(trail.shape[1:])
    mean, scale = (np.repeat(array(v), pixels) for v in (module.mean, module.inverse_std))
    if mean.any():
        trail.normalise(Diagonal(np.ones_like(mean), -mean))
    if (scale != 1).any():
        trail.normalise(Diagonal(scale))


def _pad(trail: Trail, module: Any, append: Append) -> None:  # noqa: ARG001
    if module.extra:
        channels, size = trail.image(_axes(trail, "`PadChannels`"), "`PadChannels`")
        K = np.eye(channels + module.extra, channels).reshape(-1, channels, *(1,) * len(size))
        trail.convolution(K, Geometry(padding=0), None)


def _first(trail: Trail, module: Any, append: Append) -> None:  # noqa: ARG001
    if trail.shape is None:
        raise InvalidWeight(
            "`FirstChannels` needs the shape of the input. Pass `input_shape=(channels, ...)`."
        )
    kept, n = min(module.channels, trail.shape[0]), prod(trail.shape)
    shape = (kept, *trail.shape[1:])
    trail.layers.append(Affine(np.eye(prod(shape), n)))
    trail.shape = shape


def _scaled_average(trail: Trail, module: Any, append: Append) -> None:  # noqa: ARG001
    """Window sums times the root of the window's size over that size, which is a double where the size is a power of two."""
    window = tuple(module.kernel_size)
    count = prod(window)
    if count == 1:
        return
    if count & (count - 1):
        raise InvalidWeight(
            f"`{type(module).__name__}` with windows of {count} pixels is not covered, because its factor is no double. Use"
            " windows of 2 x 2 or 4 x 4."
        )
    root = np.float32(np.sqrt(count))
    if float(root) ** 2 > count:
        root = np.nextafter(root, np.float32(0))
    channels, _ = trail.image(len(window), f"`{type(module).__name__}`")
    K = np.full((channels, 1, *window), float(root) / count)
    trail.convolution(K, Geometry(stride=window, padding=0, groups=channels), None)


def _plain_skip(module: Any) -> None:
    if module.h != 1:
        raise InvalidWeight(
            f"`{type(module).__name__}` with h = {module.h} is not covered, only the skip connection h = 1."
        )


def _add_branch(trail: Trail, inner: Trail) -> None:
    if trail.shape is not None and inner.shape != trail.shape:
        raise InvalidWeight(f"A residual branch turns samples of shape {trail.shape} into {inner.shape}.")
    trail.add(Residual(tuple(inner.layers)))


def _width(trail: Trail) -> int:
    if trail.shape is not None:
        return prod(trail.shape)
    last = trail.layers[-1]
    assert isinstance(last, Affine)
    return last.outputs


def _axes(trail: Trail, what: str) -> int:
    if trail.shape is None or len(trail.shape) < 2:
        raise InvalidWeight(
            f"{what} is covered on images only, but the shape of a sample is {trail.shape}. Pass"
            " `input_shape=(channels, height, width)`."
        )
    return len(trail.shape) - 1


RULES: dict[str, Callable[[Trail, Any, Append], None]] = {
    "sdplip.nn.activations.GroupSort": _sorting,
    "sdplip.nn.activations.MaxMin": _sorting,
    "sdplip.nn.containers.Residual": _sum,
    "sdplip.nn.residual.ResidualLinear": _residual,
    "sdplip.nn.residual.ResidualConv1d": _residual,
    "sdplip.nn.residual.ResidualConv2d": _residual,
    "sdplip.nn.residual.ResidualConv3d": _residual,
    "sdplip.nn.residual.PadChannels": _pad,
    "sdplip.nn.plain.PlainResidual": _plain_residual,
    "sdplip.nn.plain.PlainSandwich": _plain_sandwich,
    "sdplip.nn.heads.LastLayerNormalised": _head,
    "sdplip.nn.heads.Normalise": _normalise,
    "sdplip.nn.pooling.FirstChannels": _first,
    "sdplip.nn.pooling.ScaledAvgPool1d": _scaled_average,
    "sdplip.nn.pooling.ScaledAvgPool2d": _scaled_average,
    "sdplip.nn.pooling.ScaledAvgPool3d": _scaled_average,
}
"""By the full name of the very class: a subclass may have its own forward."""

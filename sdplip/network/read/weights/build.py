"""A chain of layers as the graph: kernels on images, pooling, flattening, matrices, with an activation between them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.network.graph import INPUT, Builder, Network
from sdplip.network.operators import Average, Convolution, Dense, Diagonal, Maximum, Sum, pooling_windows
from sdplip.network.operators.convolution import pixels_bias
from sdplip.network.read.normalisation import ERROR
from sdplip.network.read.weights.assumptions import Assumptions
from sdplip.network.read.weights.between import between
from sdplip.network.read.weights.blocks import Block
from sdplip.network.read.weights.chain import Layer
from sdplip.network.read.weights.norms import Norm

LARGEST = 1 << 27
"""Numbers of the largest value in a network that is built: 1 GB."""


def network_of(
    layers: Sequence[Layer], assumptions: Assumptions, blocks: Sequence[Block] = (), *, certain: bool = True
) -> Network:
    """The network of the layers, with the activation between consecutive ones and none behind the last.

    Args:
        layers: kernels, then matrices.
        assumptions: activation, image size, how images are flattened or averaged.
        blocks: residual blocks among the layers.
        certain: whether all biases are known; without, functions that they matter to keep their slopes alone.

    Raises:
        InvalidWeight: a matrix before a kernel, widths or channels that do not fit, a kernel without image size, unknown
            activations, sums of values of different shapes.
    """
    count = sum(layer.W.ndim > 2 for layer in layers)
    if any(layer.W.ndim > 2 for layer in layers[count:]):
        raise InvalidWeight(
            "Kernels must come before the matrices. Choose the layers of one chain with `--layer`."
        )
    if not count:
        _refuse_idle(assumptions)
        builder = Builder((layers[0].W.shape[1],))
    else:
        size = _image_size(layers[0], assumptions)
        groups = (layers[0].geometry or Geometry()).groups
        builder = Builder((layers[0].W.shape[1] * groups, *size))
    build, at, parts = _Build(builder, assumptions, certain), INPUT, _parts(layers, blocks)
    for place, part in enumerate(parts):
        if isinstance(part, Layer):
            at = build.layer(at, part, activated=place < len(parts) - 1 and part.name not in assumptions.bare)
        else:
            at = build.block(at, *part)
    return builder.finish(at)


Inside = tuple[Block, list[Layer], list[Layer]]
"""A block, the layers of f and of the identity's place."""


def _parts(layers: Sequence[Layer], blocks: Sequence[Block]) -> list[Layer | Inside]:
    """Layers and blocks, first one first."""
    by_name, found = {layer.name: layer for layer in layers}, list[Layer | Inside]()
    inside = {name: block for block in blocks for name in block.names}
    for layer in layers:
        block = inside.get(layer.name)
        if block is None:
            found.append(layer)
        elif layer.name == block.layers[0]:
            found.append((block, [by_name[n] for n in block.layers], [by_name[n] for n in block.shortcut]))
    return found


@dataclass(frozen=True, eq=False)
class _Build:
    """The network while it grows."""

    builder: Builder
    assumptions: Assumptions
    certain: bool

    def layer(self, at: int, layer: Layer, *, activated: bool) -> int:
        """A layer with its normalisation, with the activation behind it or not, and its pooling."""
        builder = self.builder
        make = _kernel if layer.W.ndim > 2 else _matrix
        at = make(builder, at, layer, self.assumptions)
        if layer.norm and not layer.norm.behind_activation:
            at = _norm(builder, at, layer.norm)
        if layer.behind not in (None, "identity"):
            at = builder.add(between(layer.behind, builder.shape(at)), at, shape=builder.shape(at))
        elif layer.behind is None and activated:
            at = self.activation(at)
        if layer.norm and layer.norm.behind_activation:
            at = _norm(builder, at, layer.norm)
        return _pools(builder, at, layer)

    def block(self, at: int, block: Block, layers: Sequence[Layer], shortcut: Sequence[Layer]) -> int:
        """s(x) + f(x)."""
        made = kept = at
        for k, layer in enumerate(layers):
            made = self.activation(made) if block.activation == "before" else made
            behind = block.activation == "behind" or (block.activation == "between" and k < len(layers) - 1)
            made = self.layer(made, layer, activated=behind)
        for layer in shortcut:
            kept = self.layer(kept, layer, activated=False)
        if self.builder.shape(made) != self.builder.shape(kept):
            raise InvalidWeight(
                f"`{block.title}` adds f(x) of shape {self.builder.shape(made)} to x of shape {self.builder.shape(kept)}. Say stride"
                " and padding of its layers, and which of them stand in the place of x: `--geometry FILE.toml`."
            )
        shape = self.builder.shape(made)
        at = self.builder.add(Sum((1, 1), prod(shape)), kept, made, shape=shape, name=block.title)
        return self.activation(at) if block.activated else at

    def activation(self, at: int) -> int:
        """What stands between the layers."""
        shape, kind = self.builder.shape(at), self.assumptions.activation or "relu"
        op = between(kind, shape, self.assumptions.slopes, evaluated=self.certain)
        return self.builder.add(op, at, shape=shape)


def _refuse_idle(assumptions: Assumptions) -> None:
    idle = [name for name in ("image_size", "flatten", "average", "geometry") if getattr(assumptions, name)]
    if idle:
        said = ", ".join(name.replace("_", " ") for name in idle)
        raise InvalidWeight(
            f"Something is said of images ({said}), but no layer is a convolution. Drop the option."
        )


def _image_size(layer: Layer, assumptions: Assumptions) -> tuple[int, ...]:
    axes, size = layer.W.ndim - 2, assumptions.image_size
    if size is None:
        raise InvalidWeight(
            f"`{layer.name}` is a convolution kernel, and the bound of a whole network needs the size of its image: pass"
            " `--image-size H,W`. Without it, `sdplip check` bounds each layer for images of every size."
        )
    size = (size,) * axes if isinstance(size, int) else size
    if len(size) != axes or min(size) < 1 or prod(size) > LARGEST:
        raise InvalidWeight(f"`{layer.name}` moves on images of {axes} axes, but their size is {size}.")
    return size


def _kernel(builder: Builder, at: int, layer: Layer, _: Assumptions) -> int:
    channels, *size = builder.shape(at)
    geometry = (layer.geometry or Geometry()).expand(layer.W.shape)
    if layer.W.shape[1] * geometry.groups != channels:
        raise InvalidWeight(
            f"`{layer.name}` takes {layer.W.shape[1] * geometry.groups} channels, but is given {channels}. Kernels are (out, in /"
            " groups, *taps), first layer first; `transpose` those that are (*taps, in, out), and say their `groups`."
        )
    if len(size) != layer.W.ndim - 2:
        raise InvalidWeight(
            f"`{layer.name}` moves on {layer.W.ndim - 2} image axes, but is given {len(size)}."
        )
    reach = tuple(d * (k - 1) for d, k in zip(geometry.dilation, layer.W.shape[2:], strict=True))
    pads = tuple(
        (r // 2, r - r // 2) if geometry.padding is None else (p, p)
        for r, p in zip(reach, geometry.padding or reach, strict=True)
    )
    _check_size(layer, channels * prod(h + sum(p) for h, p in zip(size, pads, strict=True)))
    op = Convolution(
        layer.W,
        tuple(size),
        geometry.stride,
        pads,
        geometry.dilation,
        geometry.groups,
        geometry.padding_mode == "circular",
    )
    _check_size(layer, op.outputs)
    op = replace(op, b=pixels_bias(layer.b, op.output_size))
    return builder.add(op, at, shape=op.shape, name=layer.name)


def _check_size(layer: Layer, count: int) -> None:
    if count > LARGEST:
        raise InvalidWeight(
            f"`{layer.name}` takes or makes {count} numbers of one image, more than {LARGEST}. Check padding and image size."
        )


def _matrix(builder: Builder, at: int, layer: Layer, assumptions: Assumptions) -> int:
    W, shape = layer.W, builder.shape(at)
    channels, *size = shape
    pixels = tuple(size)
    if pixels and assumptions.average:
        at = builder.add(_average(channels, pixels, pixels, pixels), at, shape=(channels,))
    elif pixels:
        W = _flattened(layer, shape, assumptions.flatten or "chw")
    elif W.shape[1] != channels:
        raise InvalidWeight(
            f"`{layer.name}` takes {W.shape[1]} numbers, but is given {channels}. Weights are (out, in), first layer first;"
            " transpose those that are (in, out)."
        )
    return builder.add(Dense(W, layer.b), at, name=layer.name)


def _norm(builder: Builder, at: int, norm: Norm) -> int:
    shape, numbers = builder.shape(at), norm.numbers
    if len(numbers.d) != shape[0]:
        raise InvalidWeight(f"`{norm.name}` normalises {len(numbers.d)} channels, but is given {shape[0]}.")
    pixels = prod(shape[1:])
    d, b, slack = (np.repeat(v, pixels) for v in (numbers.d, numbers.b, numbers.slack))
    return builder.add(Diagonal(d, b, ERROR, slack), at, shape=shape, name=norm.name)


def _pools(builder: Builder, at: int, layer: Layer) -> int:
    pool = layer.pool
    if pool is None:
        return at
    window = pool.average_pool if pool.max_pool is None else pool.max_pool
    if (
        window is None
        or (pool.max_pool is None) == (pool.average_pool is None)
        or (pool.max_pool is None and pool.pool_padding)
    ):
        raise InvalidWeight(
            f"Pooling behind `{layer.name}` needs `max_pool` or `average_pool`, one of them, and padding is for maxima alone."
        )
    channels, *pixels = builder.shape(at)
    size = tuple(pixels)
    stride = window if pool.pool_stride is None else pool.pool_stride
    sides, steps, pads = (
        (n,) * len(size) if isinstance(n, int) else n for n in (window, stride, pool.pool_padding)
    )
    if not len(sides) == len(steps) == len(pads) == len(size) or any(
        not (1 <= k <= h and s >= 1 and 2 * p <= k)
        for k, s, p, h in zip(sides, steps, pads, size, strict=True)
    ):
        raise InvalidWeight(
            f"Pooling windows {sides} of stride {steps} and padding {pads} behind `{layer.name}` do not fit {size} pixels."
        )
    around = tuple((p, p) for p in pads)
    if pool.max_pool is not None:
        index = pooling_windows(channels, size, sides, steps, around)
        op: Maximum | Average = Maximum(index, channels * prod(size))
    else:
        op = _average(channels, size, sides, steps)
    made = tuple((h + 2 * p - k) // s + 1 for h, k, s, p in zip(size, sides, steps, pads, strict=True))
    return builder.add(op, at, shape=(channels, *made), name=f"{layer.name} pool")


def _average(
    channels: int, size: tuple[int, ...], window: tuple[int, ...], stride: tuple[int, ...]
) -> Average:
    index = pooling_windows(channels, size, window, stride, ((0, 0),) * len(size))
    return Average(index, np.full(len(index), float(prod(window))), channels * prod(size))


def _flattened(layer: Layer, shape: tuple[int, ...], flatten: str) -> np.ndarray:
    """The matrix whose columns count the images channels first. `flatten` says how they are stored, slowest first: channels, rows
    and columns (torch), channels last (Keras), or columns, rows, channels (MATLAB)."""
    W, channels, pixels = layer.W, shape[0], shape[1:]
    if W.shape[1] == channels and prod(pixels) > 1:
        raise InvalidWeight(
            f"`{layer.name}` takes {channels} numbers, one a channel, but the images before it have {pixels} pixels. If the"
            " network averages them first, say so: `average=True`, `--average` at the command line."
        )
    if W.shape[1] != prod(shape):
        raise InvalidWeight(
            f"`{layer.name}` takes {W.shape[1]} numbers, but the images before it have {channels} channels of {pixels} pixels."
            " Check image size, stride, padding and pooling: `--geometry FILE.toml` says them layer by layer."
        )
    if flatten == "chw":
        return W
    if flatten != "hwc" and len(pixels) != 2:
        raise InvalidWeight(
            f"`flatten` {flatten!r} is about images of two axes, but these have {len(pixels)}."
        )
    order = (*range(1, len(shape)), 0) if flatten == "hwc" else (2, 1, 0)
    stored = tuple(np.array(shape)[list(order)])
    return np.ascontiguousarray(W.reshape(len(W), *stored).transpose(0, *(1 + np.argsort(order)))).reshape(
        W.shape
    )

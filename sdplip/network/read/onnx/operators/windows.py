"""Pooling, reductions over axes, and the numbers that say how windows move."""

from collections.abc import Mapping

from sdplip.network.read import images, maps
from sdplip.network.read.arrays import Array, axis_of, entries, mapped
from sdplip.network.read.onnx.operators.entry import Operator
from sdplip.network.read.onnx.step import Step

Numbers = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def geometry(step: Step, window: Numbers) -> tuple[Numbers, Numbers, int]:
    """Stride and dilation on each image axis, and groups."""
    axes = len(window)
    if axes not in (1, 2, 3):
        step.refuse(f"has {axes} image axes. Covered are one to three.")
    stride = tuple(step.options.get("strides", (1,) * axes))
    dilation = tuple(step.options.get("dilations", (1,) * axes))
    if len(stride) != axes or len(dilation) != axes or min(*stride, *dilation) < 1:
        step.refuse(f"has strides {stride} and dilations {dilation} on {axes} image axes.")
    return stride, dilation, int(step.options.get("group", 1))


def padding(
    step: Step, size: Numbers, window: Numbers, stride: Numbers, dilation: Numbers
) -> tuple[Pads, Numbers]:
    """Pixels added before and after each axis, and the windows on it, incomplete ones counted with `ceil_mode`.

    "SAME" gives ceil(size / stride) windows; an odd pixel goes behind the image (UPPER) or before it (LOWER).
    """
    axes = len(window)
    auto = step.options.get("auto_pad", "NOTSET")
    own = tuple(step.options.get("pads", (0,) * 2 * axes))
    if len(own) != 2 * axes or min(own) < 0:
        step.refuse(f"has padding {own} on {axes} image axes.")
    pads = tuple(zip(own[:axes], own[axes:], strict=True))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, window, strict=True)]
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        total = [max(0, (-(-h // s) - 1) * s + r - h) for h, s, r in zip(size, stride, reach, strict=True)]
        upper = auto == "SAME_UPPER"
        pads = tuple((t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in total)
    elif auto == "VALID":
        pads = ((0, 0),) * axes
    elif auto != "NOTSET":
        step.refuse(f"has `auto_pad` {auto}.")
    count = [(h + sum(p) - r) // s + 1 for h, p, r, s in zip(size, pads, reach, stride, strict=True)]
    if step.options.get("ceil_mode", 0):
        numbers = zip(size, pads, reach, stride, strict=True)
        count = [-(-(h + sum(p) - r) // s) + 1 for h, p, r, s in numbers]
        # A window that begins behind the image and the padding in front of it is left out.
        numbers = zip(count, size, pads, stride, strict=True)
        count = [n - ((n - 1) * s >= h + p[0]) for n, h, p, s in numbers]
    return pads, tuple(count)


def _maximum(step: Step) -> Array:
    if step.outputs > 1:
        step.refuse("gives the places of its maxima too, which are no Lipschitz function.")
    x, window = step.array(), tuple(step.options["kernel_shape"])
    stride, dilation, _ = geometry(step, window)
    pads, count = padding(step, x.shape[2:], window, stride, dilation)
    return images.maximum_pool(x, window, stride=stride, pads=pads, dilation=dilation, output_size=count)


def _average(step: Step) -> Array:
    x, window = step.array(), tuple(step.options["kernel_shape"])
    stride, dilation, _ = geometry(step, window)
    pads, count = padding(step, x.shape[2:], window, stride, dilation)
    return images.average_pool(
        x,
        window,
        stride=stride,
        pads=pads,
        dilation=dilation,
        count_padding=bool(step.options.get("count_include_pad", 0)),
        output_size=count,
    )


def _global(how: str):
    def read(step: Step) -> Array:
        x = step.array()
        if x.rank < 3:
            step.refuse(f"pools images, but is given shape {x.full}.")
        return maps.reduced(x, range(2, x.rank), how, keepdims=True)

    return Operator(read, (), "all image axes")


def _reduced(how: str):
    def read(step: Step) -> Array:
        x = step.array()
        axes = step.numbers(1, "axes")
        if not axes:
            if step.options.get("noop_with_empty_axes", 0):
                return maps.activation(x, "abs") if how in ("l1", "l2") else x
            axes = tuple(range(x.rank))
        if how == "l1":
            x = maps.activation(x, "abs")
        keep = bool(step.options.get("keepdims", 1))
        return maps.reduced(x, axes, "sum" if how == "l1" else how, keepdims=keep)

    return Operator(read, ("axes", "keepdims", "noop_with_empty_axes"), "any axes but the batch")


def _top(step: Step) -> Array:
    """The k largest or smallest entries, which a sorted axis holds at one end."""
    x, (k,) = step.array(), step.numbers(1, "k") or (1,)
    axis = axis_of(x, int(step.options.get("axis", -1)))
    if not step.options.get("sorted", 1) or not 0 < k <= x.shape[axis]:
        step.refuse(f"gives {k} entries of {x.shape[axis]} in an order that is not said.")
    y = maps.sorted_along(x, axis)
    index = entries(y).swapaxes(0, axis)
    index = index[::-1] if step.options.get("largest", 1) else index
    return mapped(y, index[:k].swapaxes(0, axis))


WINDOWS: Mapping[str, Operator] = {
    "MaxPool": Operator(
        _maximum,
        ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"),
        "one to three image axes, any padding, `ceil_mode`",
    ),
    "AveragePool": Operator(
        _average,
        ("auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"),
        "one to three image axes, any padding, `ceil_mode`",
    ),
    "GlobalAveragePool": _global("mean"),
    "GlobalMaxPool": _global("max"),
    "ReduceMean": _reduced("mean"),
    "ReduceSum": _reduced("sum"),
    "ReduceMax": _reduced("max"),
    "ReduceMin": _reduced("min"),
    "ReduceL1": _reduced("l1"),
    "ReduceL2": _reduced("l2"),
    "ReduceLogSumExp": _reduced("logsumexp"),
    "TopK": Operator(_top, ("axis", "k", "largest", "sorted"), "the values, as sorting"),
}

"""An ONNX graph, node by node, as arrays of the network."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight, Misfit
from sdplip.network.graph import Network
from sdplip.network.read.arrays import Array, Batch, concatenated, finish, reshape, transpose
from sdplip.network.read.onnx.facts import Facts, Model, settle
from sdplip.network.read.onnx.layout import FLOATS, Layout, layouts, open_axes, started
from sdplip.network.read.onnx.operators import OPERATORS
from sdplip.network.read.onnx.patterns import Found, recognised
from sdplip.network.read.onnx.refused import why_not
from sdplip.network.read.onnx.step import Step
from sdplip.network.read.simplify import simplified
from sdplip.weights.onnx_constants import attributes
from sdplip.weights.onnx_file import STANDARD, named


@dataclass(frozen=True, eq=False)
class Reading:
    """A graph that was followed.

    Attributes:
        model: the file.
        layout: how it was traced.
        inputs: whether each input of the graph is followed; the others are 0.
        outputs: of the graph, each with its array.
        network: what was understood.
        used: names of values that the network depends on.
    """

    model: Model
    layout: Layout
    inputs: Mapping[str, bool]
    outputs: Mapping[str, Array]
    network: Network
    used: frozenset[str]

    def dtype(self, name: str) -> np.dtype:
        """The type of an input."""
        from onnx import helper

        value = next(value for value in self.model.graph.input if value.name == name)
        return np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))


def follow(model: Model, inputs: str | None, outputs: str | None) -> Reading:
    """The network of a graph.

    Args:
        inputs, outputs: the name of the one that counts; None: all of them together, as one vector.

    Raises:
        InvalidWeight: a node that is not covered, samples that mix, or names that are not there.
    """
    axes = open_axes(model)
    followed = {name: inputs in (None, name) for name in axes}
    if not any(followed.values()):
        raise InvalidWeight(f"`{model.path}` has no input `{inputs}`. It has {_listed(axes)}.")
    wanted = _outputs(model, outputs)
    failed: InvalidWeight | None = None
    for layout in layouts(model, _closed(model, axes)):
        try:
            reading = _traced(model, layout, followed, wanted)
            if layout.free and settle(model, layout.shapes).sized:
                _check_free(model, reading)
        except Misfit as error:
            failed = error
        except InvalidWeight as error:
            if layout.free or layout.batch is None:
                raise
            failed = error
        else:
            return reading
    assert failed is not None
    raise failed


def _outputs(model: Model, name: str | None) -> tuple[str, ...]:
    names = tuple(value.name for value in model.graph.output)
    if name is not None and name not in names:
        raise InvalidWeight(f"`{model.path}` has no output `{name}`. It has {_listed(names)}.")
    return names if name is None else (name,)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _closed(model: Model, axes: Mapping[str, tuple[int | str, ...]]) -> Mapping[str, tuple[int | str, ...]]:
    """The axes, sizes of all but the first filled in: an open size is found where the weights admit one only.

    Raises:
        InvalidWeight: they admit none or several.
    """
    unknown = {n for shape in axes.values() for n in shape[1:] if isinstance(n, str)}
    if not unknown:
        return axes
    sizes = {n for array in model.graph.initializer for n in array.dims if n > 0}
    fitting = (
        [size for size in sorted(sizes) if _fits(model, _sized(axes, size))]
        if len(unknown) == 1 and len(sizes) < 100
        else []
    )
    # strides and means over everything leave several sizes, which stand side by side
    if len(fitting) != 1 or any(
        _fits(model, _sized(axes, size)) for size in (fitting[0] - 1, fitting[0] + 1) if size
    ):
        raise InvalidWeight(
            f"The input of `{model.path}` has axes of open size ({_listed(unknown)}), but a network takes images of one size."
            " Fix them with `onnx.tools.update_model_dims`, or export the network for one image size."
        )
    return _sized(axes, fitting[0])


def _sized(axes: Mapping[str, tuple[int | str, ...]], size: int) -> Mapping[str, tuple[int | str, ...]]:
    """The axes with one size for what is open behind the first."""
    return {
        name: (*shape[:1], *(size if isinstance(n, str) else n for n in shape[1:]))
        for name, shape in axes.items()
    }


def _fits(model: Model, axes: Mapping[str, tuple[int | str, ...]]) -> bool:
    """Whether the graph runs on inputs of these axes."""
    try:
        settle(model, list(layouts(model, axes))[-1].shapes)
    except InvalidWeight:
        return False
    return True


def _check_free(model: Model, reading: Reading) -> None:
    """Raises:
    InvalidWeight: at a batch of another size the network would be another one.
    """
    old = reading.layout
    size = next(n for n in (103, 107, 109, 113) if n != old.batch)
    shapes = {name: (size, *shape[1:]) for name, shape in old.shapes.items()}
    names = tuple(reading.outputs)
    other = _traced(model, replace(old, shapes=shapes, batch=size), reading.inputs, names)
    if not same(reading.network, other.network):
        raise InvalidWeight(f"The values of `{model.path}` depend on how many samples a batch has.")


def same(a: object, b: object) -> bool:
    """Whether two networks, or parts of them, hold the same numbers."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(np.asarray(a), np.asarray(b))
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if type(a) is type(b) and hasattr(a, "__dataclass_fields__"):
        names = a.__dataclass_fields__  # type: ignore[attr-defined]
        return all(same(getattr(a, name), getattr(b, name)) for name in names)
    return a == b


def _traced(model: Model, layout: Layout, inputs: Mapping[str, bool], wanted: tuple[str, ...]) -> Reading:
    facts = settle(model, layout.shapes)
    for name in wanted:
        if name in facts.constants:
            raise InvalidWeight(f"The output `{name}` of `{model.path}` does not depend on its input.")
    found = recognised(model, facts)
    needed, used = _needed(model.graph, facts, found, wanted)
    arrays = started(layout, {name: inputs[name] for name in inputs})
    for name in inputs:
        if name in used and facts.types[name][0] not in FLOATS:
            raise InvalidWeight(
                f"The input `{name}` of `{model.path}` is no array of real numbers. Name another one."
            )
    for node in needed:
        _evaluate(node, model, facts, found, arrays)
    outputs = {name: arrays[name] for name in wanted}
    network = simplified(finish(_joined(list(outputs.values()))))
    return Reading(model, layout, inputs, outputs, network, frozenset(used))


def _joined(outputs: list[Array]) -> Array:
    """All outputs as one vector a sample."""
    rows = list[Array]()
    for y in outputs:
        if y.batch is None:
            rows.append(reshape(y, (-1,)))
            continue
        front = [k for k in range(y.rank) if k != y.batch.axis]
        y = transpose(y, (y.batch.axis, *front)) if y.batch.lead == 1 else y
        rows.append(replace(y, shape=(1, y.size), batch=Batch(0)))
    return concatenated(rows, -1) if len(rows) > 1 else rows[0]


def _needed(
    graph: Any, facts: Facts, found: Mapping[str, Found], wanted: tuple[str, ...]
) -> tuple[list[Any], set[str]]:
    """The nodes that make the wanted values, in order, and all values that go into them."""
    used, nodes = set(wanted), list[Any]()
    for node in reversed(graph.node):
        if used.isdisjoint(node.output):
            continue
        pattern = found.get(node.output[0])
        used |= set(pattern.bases) if pattern else set(filter(None, node.input))
        if node.output[0] not in facts.constants:
            nodes.append(node)
    return nodes[::-1], used


def _evaluate(
    node: Any, model: Model, facts: Facts, found: Mapping[str, Found], arrays: dict[str, Array]
) -> None:
    tape = next(iter(arrays.values())).tape
    tape.kind, tape.at = f"Node {node.op_type}", named(node)
    pattern = found.get(node.output[0])
    if pattern:
        made: Array | tuple[Array, ...] = pattern.make(*(arrays[name] for name in pattern.bases))
    else:
        made = _read(node, model, facts, arrays)
    for name, array in zip(node.output, made if isinstance(made, tuple) else (made,), strict=False):
        shape = facts.types.get(name, (0, None))[1]
        if shape is not None and shape != array.full:
            raise Misfit(f"{tape.subject} makes an array of shape {shape}, but {array.full} was understood.")
        arrays[name] = array


def _read(node: Any, model: Model, facts: Facts, arrays: Mapping[str, Array]) -> Array | tuple[Array, ...]:
    tape = next(iter(arrays.values())).tape
    operator = OPERATORS.get(node.op_type) if node.domain in STANDARD else None
    if operator is None:
        raise tape.refusal(why_not(node))
    options = attributes(node)
    if unknown := set(options) - set(operator.options):
        raise tape.refusal(f"has the attributes {_listed(sorted(unknown))}, which are not covered.")
    values = list[Array | np.ndarray | None]()
    for name in node.input:
        if name and name not in facts.constants and name not in arrays:
            raise tape.refusal(f"takes `{name}`, a further output of its node that is not covered.")
        values.append(facts.constants[name] if name in facts.constants else arrays[name] if name else None)
    types = tuple(facts.types.get(name, (0, None))[0] for name in node.input)
    outputs = sum(map(bool, node.output))
    return operator.read(Step(node.op_type, tuple(values), options, model.version, outputs, types, tape))


def opened(path: Path) -> Model:
    """The model of a file, checked; damage is the caller's to refuse."""
    from sdplip.weights.onnx_file import open_model, opset

    proto = open_model(path)
    return Model(proto, proto.graph, opset(proto, path), proto.ir_version, path)

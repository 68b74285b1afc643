"""The inputs of an ONNX graph: which are followed, of which shape, and where the batch stands."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.network.graph import INPUT, Builder, Shape
from sdplip.network.read.arrays import LARGEST_ARRAY, Array, Batch, Tape, mapped, person
from sdplip.network.read.onnx.facts import Model, initialisers

PRIMES = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103)
FLOATS = {1: "float", 10: "float16", 11: "double", 16: "bfloat16"}
Axes = tuple[int | str, ...]
"""The axes of an input: sizes, and names of those that the file leaves open."""


@dataclass(frozen=True)
class Layout:
    """How a graph is traced.

    Attributes:
        shapes: of each input of the graph, the batch counted.
        batch: samples of axis 0 of every input; None where no axis is a batch.
        free: whether the graph takes batches of every size.
        sentences: what was assumed.
    """

    shapes: Mapping[str, Shape]
    batch: int | None = None
    free: bool = False
    sentences: tuple[str, ...] = field(default=())

    def sample(self, name: str) -> Shape:
        """What one sample has of an input."""
        shape = self.shapes[name]
        return shape if self.batch is None else (1, *shape[1:])


def open_axes(model: Model) -> dict[str, Axes]:
    """The axes of each input that the graph does not fill itself.

    Raises:
        InvalidWeight: an input that is no tensor of known rank.
    """
    given, found = initialisers(model.graph), dict[str, Axes]()
    for value in model.graph.input:
        if value.name in given:
            continue
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
            raise InvalidWeight(
                f"The input `{value.name}` of `{model.path}` has no shape. Export it with one."
            )
        axes = enumerate(tensor.shape.dim)
        found[value.name] = tuple(
            axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else axis.dim_param or f"?{k}"
            for k, axis in axes
        )
    if not found:
        raise InvalidWeight(f"`{model.path}` has no input: everything in it is constant.")
    return found


def layouts(model: Model, axes: Mapping[str, Axes]) -> Iterator[Layout]:
    """The layouts to try, in order, all axes but the first being known.

    Axis 0 is the batch where its size is open, or where it is larger than 1 and the graph keeps its entries apart; a graph that
    runs on one sample at a time only, and one whose axis 0 is no batch, is followed as a whole.
    """
    first = [shape[0] if shape else 1 for shape in axes.values()]
    if all(isinstance(n, str) for n in first):
        size = _prime(model, axes)
        yield Layout(_filled(axes, size), size, free=True)
        yield Layout(_filled(axes, 1), None, sentences=("It runs on one sample at a time.",))
        return
    one = _filled(axes, 1)
    size = first[0]
    if isinstance(size, int) and size > 1 and set(first) == {size} and all(len(n) > 1 for n in axes.values()):
        said = f"Axis 0 of the input holds {size} samples that it keeps apart: what is said is said of each."
        yield Layout(one, size, sentences=(said,))
    yield Layout(one)


def _filled(axes: Mapping[str, Axes], batch: int) -> dict[str, Shape]:
    return {name: tuple(n if isinstance(n, int) else batch for n in shape) for name, shape in axes.items()}


def _prime(model: Model, axes: Mapping[str, Axes]) -> int:
    """A prime number that occurs nowhere in the graph, so that an axis of this size is the batch."""
    used = {n for shape in axes.values() for n in shape}
    for array in initialisers(model.graph).values():
        used |= set(array.shape)
        if array.dtype.kind in "iu" and array.size < 64:
            used |= {int(n) for n in array.reshape(-1)}
    return next(n for n in PRIMES if n not in used)


def started(layout: Layout, names: Mapping[str, bool]) -> dict[str, Array]:
    """The inputs as arrays on a new tape: those followed side by side in the input of the network, the others 0.

    Args:
        names: of each input of the graph, whether it is followed.
    """
    followed = [name for name, wanted in names.items() if wanted]
    place = None if layout.batch is None else Batch(0)
    shapes = {name: layout.sample(name) for name in names}
    sizes = {name: prod(shapes[name]) for name in names}
    total = sum(sizes[name] for name in followed)
    if max(total, *sizes.values(), layout.batch or 1) > LARGEST_ARRAY:
        raise InvalidWeight(
            f"The input has shapes {dict(layout.shapes)}, which is more than {LARGEST_ARRAY} numbers."
        )
    shape = person(shapes[followed[0]], place) if len(followed) == 1 else (total,)
    tape = Tape(Builder(shape), layout.batch or 1)
    x = Array(tape, INPUT, (1, total) if place else (total,), place)
    found, at = dict[str, Array](), 0
    for name in names:
        index = np.full(sizes[name], -1)
        if names[name]:
            index = np.arange(at, at + sizes[name])
            at += sizes[name]
        found[name] = mapped(x, index.reshape(shapes[name]))
    return found

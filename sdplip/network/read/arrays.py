r"""Arrays that a reader follows through a graph: which value of the network, of which shape, and where the batch stands.

Readers trace a graph at a batch of `Tape.batch` samples, a prime number (or without a batch). The batch splits the numbers of an
array, taken row by row, into `(before, batch, after)`; a reshape never moves it, it only asks in which axis the batch lies
now. An axis that holds the batch and something else (`x.view(-1, d)` on tokens) has size `lead * batch * rest`. Values of the
network hold one sample. Whatever would mix samples is refused by `own`.

Index maps are NumPy operations on the numbers of the entries: `mapped(x, entries(x).transpose(...))`; -1 reads 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from sdplip.errors import InvalidWeight, Misfit
from sdplip.network.graph import INPUT, Builder, Network, Shape
from sdplip.network.operators import Concatenate, Diagonal, Gather, Operator, Sum
from sdplip.shapes import Float, Int

Entries = Int[np.ndarray, "*shape"]
Constant = Float[np.ndarray, "*shape"]


LARGEST_ARRAY = 1 << 27
"""Numbers of the largest array, index map or matrix that a reader makes: 1 GB."""


@dataclass(eq=False)
class Tape:
    """Where arrays are written down.

    Attributes:
        builder: of the network.
        batch: samples that the graph is traced with; 1 where there is no batch axis.
        kind, at: of the node of the graph at work, and its name, which the nodes of the network get: both stand in refusals.
        padded: value -> the array that was padded, widths and mode, so that a convolution behind it may take the padding over.
        sorts: shape and values -> those values sorted entry by entry, so that their maximum and minimum are one sort.
    """

    builder: Builder
    batch: int = 1
    kind: str = "Node"
    at: str = ""
    padded: dict[int, tuple["Array", tuple[tuple[int, int], ...], str]] = field(default_factory=dict)

    sorts: dict[tuple[object, ...], "Array"] = field(default_factory=dict)

    def add(self, op: Operator, *inputs: int, shape: Shape) -> int:
        """Adds a node; an index map behind an index map becomes one."""
        if isinstance(op, Gather):
            inner, index = self.read_through(inputs[0])
            if index is not None and not _identity(op):
                op, inputs = Gather(np.where(op.index < 0, -1, index[op.index]), self.length(inner)), (inner,)
            if _identity(op):
                return inputs[0]
        return self.builder.add(op, *inputs, shape=shape, name=self.at)

    def read_through(self, value: int) -> tuple[int, Int[np.ndarray, " n"] | None]:
        """The value whose entries an index map reads, and which; the value itself and None if no index map made it."""
        if value == INPUT:
            return value, None
        node = self.builder.nodes[value - 1]
        return (node.inputs[0], node.op.index) if isinstance(node.op, Gather) else (value, None)

    def length(self, value: int) -> int:
        """How many numbers a value has."""
        return prod(self.builder.shape(value))

    def need(self, count: int) -> None:
        """Raises:
        InvalidWeight: an array of so many numbers is too large to be made.
        """
        if count > LARGEST_ARRAY:
            raise self.refusal(f"needs {count} numbers at once; {LARGEST_ARRAY} are the limit.")

    @property
    def subject(self) -> str:
        """The node at work, as the subject of a sentence."""
        return f"{self.kind} `{self.at}`" if self.at else "The graph"

    def refusal(self, why: str) -> InvalidWeight:
        """The error that names the node at work."""
        return InvalidWeight(f"{self.subject} {why}")


def _identity(op: Gather) -> bool:
    return op.inputs == op.outputs and bool((op.index == np.arange(op.inputs)).all())


@dataclass(frozen=True)
class Batch:
    """The batch lies in `axis`, behind `lead` entries of it that belong to one sample; 1 where the axis is the batch alone."""

    axis: int
    lead: int = 1


@dataclass(frozen=True, eq=False)
class Array:
    """A value as the graph sees it.

    Attributes:
        value: its number in the network.
        shape: of what one sample has of it: the axis of the batch has size 1 (more where other axes are merged with it).
        batch: where the batch stands; None without one.
    """

    tape: Tape
    value: int
    shape: Shape
    batch: Batch | None

    @property
    def full(self) -> Shape:
        """The shape in the graph, all samples of the batch counted."""
        return tuple(n * self._times(k) for k, n in enumerate(self.shape))

    @property
    def size(self) -> int:
        """Numbers of one sample."""
        return prod(self.shape)

    @property
    def rank(self) -> int:
        return len(self.shape)

    def _times(self, axis: int) -> int:
        return self.tape.batch if self.batch is not None and axis == self.batch.axis else 1


def start(shape: Sequence[int], *, batch_axis: int | None = None, batch: int = 1) -> Array:
    """The input of a new network, of `shape` in the graph (the batch counted), and the tape it is written on."""
    shape = tuple(shape)
    if batch_axis is None:
        batch = 1
    sample = tuple(n // batch if k == batch_axis else n for k, n in enumerate(shape))
    place = None if batch_axis is None else Batch(batch_axis)
    return Array(Tape(Builder(person(sample, place)), batch), INPUT, sample, place)


def finish(x: Array) -> Network:
    """The network that makes an array."""
    return x.tape.builder.finish(x.value)


def person(shape: Shape, batch: Batch | None) -> Shape:
    """How a person sees one sample: without the axis of the batch, without axes of size 1 in front where there is no batch."""
    if batch is not None and shape[batch.axis] == 1:
        shape = shape[: batch.axis] + shape[batch.axis + 1 :]
    elif batch is None and len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape or (1,)


def noted(x: Array, op: Operator, shape: Shape | None = None, axis: int | None = None) -> Array:
    """What an operator of one value makes of an array: of the same shape, with the batch where it was, unless said."""
    shape = x.shape if shape is None else tuple(shape)
    batch = x.batch if x.batch is None or axis is None else replace(x.batch, axis=axis)
    return Array(x.tape, x.tape.add(op, x.value, shape=person(shape, batch)), shape, batch)


def entries(x: Array) -> Entries:
    """The numbers of the entries of one sample, in its shape."""
    return np.arange(x.size).reshape(x.shape)


def mapped(x: Array, index: Entries, axis: int | None = None) -> Array:
    """The array of the entries `index` of `x`; -1 is 0. The batch stays where it stands unless its new axis is given."""
    return noted(x, Gather(index.reshape(-1), x.size), index.shape, axis)


def axis_of(x: Array, axis: int) -> int:
    """The axis counted from the front."""
    if not -x.rank <= axis < x.rank:
        raise Misfit(f"{x.tape.subject} works on axis {axis} of an array of shape {x.full}.")
    return axis % x.rank


def own(x: Array, *axes: int) -> tuple[int, ...]:
    """The axes counted from the front, none of which may be the batch.

    Raises:
        InvalidWeight: one is.
    """
    found = tuple(axis_of(x, axis) for axis in axes)
    if x.batch is not None and x.batch.axis in found:
        raise x.tape.refusal(
            f"works on axis {x.batch.axis} of {x.full}, which holds the samples of a batch. A bound is about one sample, so no"
            " layer may mix them."
        )
    return found


def reshape(x: Array, shape: Sequence[int]) -> Array:
    """The same numbers in another shape, the batch counted; -1 is what is left."""
    full, shape = prod(x.full), list(shape)
    if -1 in shape and prod(n for n in shape if n != -1):
        at = shape.index(-1)
        shape[at] = full // prod(n for k, n in enumerate(shape) if k != at)
    if prod(shape) != full or min(shape, default=1) < 0:
        raise Misfit(f"{x.tape.subject} cannot see an array of shape {x.full} in shape {tuple(shape)}.")
    if x.batch is None:
        return replace(x, shape=tuple(shape))
    before = prod(x.shape[: x.batch.axis]) * x.batch.lead
    for axis, n in enumerate(shape):
        front, rest = prod(shape[:axis]), n // x.tape.batch
        lead, remainder = divmod(before, front)
        if not remainder and n == rest * x.tape.batch and lead and not rest % lead:
            found = tuple(rest if k == axis else m for k, m in enumerate(shape))
            if front * lead == before and prod(found) == x.size:
                return replace(x, shape=found, batch=Batch(axis, lead))
    raise x.tape.refusal(
        f"sees samples of shape {x.full} in shape {tuple(shape)}, where no axis holds the batch."
    )


def transpose(x: Array, order: Sequence[int]) -> Array:
    """The axes in another order: axis k of the result is axis `order[k]`."""
    order = tuple(axis_of(x, axis) for axis in order)
    if sorted(order) != list(range(x.rank)):
        raise Misfit(f"{x.tape.subject} orders the axes of an array of shape {x.full} as {order}.")
    axis = None if x.batch is None else order.index(x.batch.axis)
    return mapped(x, entries(x).transpose(order), axis)


def broadcast(x: Array, shape: Sequence[int]) -> Array:
    """The array repeated to a shape, the batch counted, as NumPy does it."""
    shape = tuple(shape)
    new = len(shape) - x.rank
    axis = None if x.batch is None else x.batch.axis + new
    inner = tuple(x.shape[k - new] if k == axis else n for k, n in enumerate(shape))
    if axis is not None and new >= 0 and shape[axis] != x.full[axis - new]:
        raise x.tape.refusal(
            f"spreads samples of shape {x.full} to {shape}: over the batch, so that samples mix."
        )
    x.tape.need(prod(inner))
    try:
        index = np.broadcast_to(entries(x), inner)
    except ValueError:
        raise Misfit(f"{x.tape.subject} cannot repeat an array of shape {x.full} to {shape}.") from None
    return mapped(x, index, axis)


def fitted(x: Array, c: Constant) -> tuple[Array, Constant]:
    """The array and a constant, both repeated to the shape that they have together; the constant of one sample."""
    c = np.asarray(c)
    x = broadcast(x, together(x, x.full, c.shape))
    return x, share(x, c)


def share(x: Array, c: Constant) -> Constant:
    """What one sample of `x` has of a constant, in its shape.

    Raises:
        InvalidWeight: it is another one for each sample.
    """
    c = c.reshape((1,) * (x.rank - c.ndim) + c.shape)
    if x.batch is not None and c.shape[x.batch.axis] != 1:
        axis, lead = x.batch.axis, x.batch.lead
        parts = c.reshape(*c.shape[:axis], lead, x.tape.batch, -1, *c.shape[axis + 1 :])
        first = parts.take([0], axis + 1)
        if not (parts == first).all():
            raise x.tape.refusal("takes a constant that is another one for each sample of a batch.")
        c = first.reshape(*c.shape[:axis], -1, *c.shape[axis + 1 :])
    return np.broadcast_to(c, x.shape)


def together(x: Array, *shapes: Sequence[int]) -> Shape:
    """The shape that arrays have together."""
    try:
        return np.broadcast_shapes(*map(tuple, shapes))
    except ValueError:
        raise Misfit(f"{x.tape.subject} takes arrays of shapes {shapes}, which do not fit.") from None


def concatenated(parts: Sequence[Array | Constant], axis: int) -> Array:
    """Arrays, and constants in their shape, one after the other on an axis. Entries of one value are read there."""
    arrays = [part for part in parts if isinstance(part, Array)]
    like, tape = arrays[0], arrays[0].tape
    (axis,) = own(like, axis)
    if any(part.batch != like.batch for part in arrays):
        raise tape.refusal("puts arrays side by side whose batch stands at other places.")
    offsets, pieces, constants = dict[int, int](), list[Entries](), list[Constant]()
    for part in parts:
        if isinstance(part, Array):
            source, index = tape.read_through(part.value)
            at = offsets.setdefault(source, sum(map(tape.length, offsets)))
            flat = np.arange(part.size) if index is None else index
            pieces.append(np.where(flat < 0, -1, flat + at).reshape(part.shape))
            constants.append(np.zeros(part.shape))
        else:
            constants.append(_sample_of(part, like, axis))
            pieces.append(np.full(constants[-1].shape, -1))
    try:
        index, b = np.concatenate(pieces, axis), np.concatenate(constants, axis)
    except ValueError:
        shapes = [part.full if isinstance(part, Array) else part.shape for part in parts]
        raise Misfit(
            f"{tape.subject} cannot put arrays of shapes {shapes} side by side on axis {axis}."
        ) from None
    value, *others = offsets
    if others:
        lengths = tuple(map(tape.length, offsets))
        value = tape.add(Concatenate(lengths), *offsets, shape=(sum(lengths),))
    source = Array(tape, value, (tape.length(value),), like.batch)
    return shift(mapped(source, index), b)


def _sample_of(c: Constant, like: Array, axis: int) -> Constant:
    """What one sample has of a constant that stands beside `like` on an axis."""
    shape = tuple(c.shape[axis] if k == axis else n for k, n in enumerate(like.shape))
    if c.ndim != like.rank:
        raise Misfit(f"{like.tape.subject} puts arrays of {like.rank} and {c.ndim} axes side by side.")
    return share(replace(like, shape=shape), c)


def scale(x: Array, c: Constant, *, error: float = 0.0) -> Array:
    """$c x$ with a constant, both repeated as needed; `error` is the relative error of the factors."""
    x, c = fitted(x, c)
    if (c == 1).all() and not error:
        return x
    return noted(x, Diagonal(np.asarray(c, np.float64).reshape(-1), error=error))


def shift(x: Array, c: Constant) -> Array:
    """$x + c$ with a constant, both repeated as needed."""
    x, c = fitted(x, c)
    if not c.any():
        return x
    return noted(x, Diagonal(np.ones(x.size), np.asarray(c, np.float64).reshape(-1)))


def added(arrays: Iterable[Array], signs: Sequence[int] | None = None) -> Array:
    """The sum of arrays with factors 1 and -1, repeated to the shape that they have together."""
    arrays = tuple(arrays)
    shape = together(arrays[0], *(x.full for x in arrays))
    arrays = tuple(broadcast(x, shape) for x in arrays)
    same_place(arrays)
    op = Sum(tuple(signs or (1,) * len(arrays)), arrays[0].size)
    x = arrays[0]
    value = x.tape.add(op, *(y.value for y in arrays), shape=person(x.shape, x.batch))
    return replace(x, value=value)


def same_place(arrays: Sequence[Array]) -> None:
    """Raises:
    InvalidWeight: the batch stands at other places in arrays that are taken entry by entry.
    """
    if any(x.batch != arrays[0].batch for x in arrays):
        raise arrays[0].tape.refusal("takes arrays entry by entry whose batch stands at other places.")

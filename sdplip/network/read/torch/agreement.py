"""What was understood, beside what torch computes: operation by operation, while a forward pass is followed."""

from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from torch import Tensor

from sdplip.errors import InvalidWeight
from sdplip.network.graph import Node, apply
from sdplip.network.operators import AbstractLinear, Activation, Concatenate, Diagonal, Sum
from sdplip.network.read.arrays import Array, Tape
from sdplip.network.read.torch.shadows import numbers_of
from sdplip.shapes import Float

Rows = Float[np.ndarray, "batch n"]


@dataclass(frozen=True, eq=False)
class Whole:
    """The operator of a module that stays whole and whose network is not asked for: nothing but its lengths is known.

    Networks do not hold it; whoever follows a forward pass for bounds finds the module by the value that it makes.
    """

    inputs: int
    outputs: int


@dataclass(eq=False)
class Checks:
    """The numbers of all values of a network on the samples of one forward pass.

    Attributes:
        numbers: of each value.
        lost: what rounding of torch may have taken from them.
        unit: the largest unit roundoff of the numbers so far.
    """

    numbers: dict[int, Rows] = field(default_factory=dict)
    lost: dict[int, Rows] = field(default_factory=dict)
    unit: float = 2.0**-53

    def rounded(self, tensor: Tensor) -> None:
        """Numbers have been rounded to the precision of a tensor."""
        self.unit = max(self.unit, torch.finfo(tensor.dtype).eps / 2)

    @property
    def largest(self) -> float:
        """The largest number on the way."""
        return max(
            (float(abs(x[np.isfinite(x)]).max(initial=0.0)) for x in self.numbers.values()), default=0.0
        )

    def note(self, x: Array, tensor: Tensor) -> None:
        """The numbers of an array are these."""
        self.numbers[x.value] = rows(x, tensor)
        self.lost.pop(x.value, None)

    @np.errstate(all="ignore")
    def check(self, tape: Tape, x: Array, out: Tensor) -> None:
        """Computes the values that are new, and compares the one of `x` with what torch computed.

        Raises:
            InvalidWeight: they differ by more than rounding.
        """
        self.rounded(out)
        self.compute(tape)
        computed = rows(x, out)
        if x.value in self.lost:
            understood = self.numbers[x.value]
            slack = self.lost[x.value] + 64 * self.unit * abs(understood) + 2.0**-1000
            bad = ~(abs(understood - computed) <= slack) & np.isfinite(understood)
            if bad.any():
                raise InvalidWeight(
                    f"What was understood gives {understood[bad][0]:.9g} where torch computes {computed[bad][0]:.9g}."
                )
        self.note(x, out)

    @np.errstate(all="ignore")
    def untouched(self, tape: Tape, x: Array, tensor: Tensor) -> None:
        """Looks whether a tensor still holds what was written into it.

        Raises:
            InvalidWeight: something that nobody saw has written there.
        """
        self.compute(tape)
        known, now = self.numbers.get(x.value), rows(x, tensor)
        unit = max(self.unit, torch.finfo(tensor.dtype).eps)
        if known is None:
            return
        near = abs(known - now) <= 4 * unit * abs(known) + torch.finfo(tensor.dtype).tiny
        if not (near | ~np.isfinite(known)).all():
            raise InvalidWeight(
                "its numbers were changed by something that torch does not tell: another thread, NumPy, an extension. Compute"
                " with torch's operations, in the thread of forward."
            )

    @np.errstate(all="ignore")
    def compute(self, tape: Tape) -> None:
        """The numbers of values that are new."""
        for k, node in enumerate(tape.builder.nodes, 1):
            if k not in self.numbers and not isinstance(node.op, Whole):
                given = [self.numbers[i] for i in node.inputs]
                self.numbers[k] = apply(node.op, given)
                self.lost[k] = self._lost(node, given, self.numbers[k], self.unit)

    def tensor(self, tape: Tape, x: Array, like: Tensor) -> Tensor:
        """A tensor that holds the numbers of an array."""
        self.compute(tape)
        numbers, full = self.numbers[x.value], x.full
        if x.batch is not None:
            before = prod(x.shape[: x.batch.axis]) * x.batch.lead
            numbers = numbers.reshape(len(numbers), before, -1).swapaxes(0, 1)
        else:
            numbers = numbers[:1]
        return torch.from_numpy(np.ascontiguousarray(numbers).reshape(full)).to(
            like.device, like.dtype, copy=True
        )

    def _lost(self, node: Node, given: list[Rows], found: Rows, unit: float) -> Rows:
        """What rounding may take from each entry of a value, generously."""
        lost = [self.lost.get(i, np.zeros(1)) for i in node.inputs]
        op = node.op
        if isinstance(op, Concatenate):
            return np.concatenate([part + 0 * x for part, x in zip(lost, given, strict=True)], -1)
        if isinstance(op, Sum):
            return sum(lost) + 64 * unit * sum(map(abs, given))  # pyright: ignore[reportReturnType]
        (before,), (x,) = lost, given
        if isinstance(op, AbstractLinear):
            A = op.absolute()
            if op.terms == 0:
                return A.apply(before + 0 * x)
            size = A.apply(abs(x)) + (0.0 if op.b is None else abs(op.b))
            lost = A.apply(before + 0 * x) + 64 * (op.terms + 4) * unit * size
            if isinstance(op, Diagonal) and op.shift_error is not None:  # a difference of larger numbers
                lost = lost + 2.0**56 * unit * op.shift_error
            return lost
        steep = float(np.maximum(abs(op.alpha), abs(op.beta)).max()) if isinstance(op, Activation) else 1e3
        largest = float(abs(x).max(initial=0.0))
        return steep * before.max(initial=0.0) + 256 * unit * (largest * max(1.0, steep) + abs(found))


def rows(x: Array, tensor: Tensor) -> Rows:
    """The numbers of a tensor, one row a sample, in the order of the value of an array."""
    numbers, B = numbers_of(tensor), x.tape.batch
    if x.batch is None:
        return np.broadcast_to(numbers.reshape(1, -1), (B, numbers.size))
    before = prod(x.shape[: x.batch.axis]) * x.batch.lead
    return np.ascontiguousarray(numbers.reshape(before, B, -1).swapaxes(0, 1)).reshape(B, -1)

r"""Rule `rounded`: residual layers whose way down was rounded on its own, $f(x) = h x - V \sigma(A x + b)$ with $V \approx A^\top S$.

With any diagonal S, f differs from $x \mapsto h x - A^\top S \sigma(A x + b)$ by $(V - A^\top S) \sigma(A x + b)$, whose constant is at
most $\max |\sigma'| \lVert V - A^\top S \rVert \lVert A \rVert$. Norms of what is small are bounded by the root of the largest absolute row sum times
the largest absolute column sum. V may be a matrix, or a convolution or a transposed one that moves over images as the adjoint of A does.

Data: `step`, the diagonal of S, one number a hidden unit, or a channel of a convolution, not negative. One part: the proof of the layer
with $A^\top S$ in place of V (`residual`).
"""

from dataclasses import dataclass, replace

import numpy as np

from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, up
from sdplip.errors import NotProvable
from sdplip.kernel.data import array
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.rules.closed import row_and_column_sums
from sdplip.kernel.rules.residual import residual_path
from sdplip.network import (
    AbstractLinear,
    Activation,
    Builder,
    Convolution,
    Dense,
    Diagonal,
    Network,
    Node,
    OnAxis,
    Sum,
    Transposed,
)
from sdplip.shapes import Float

Up = Dense | OnAxis | Convolution


@dataclass(frozen=True, eq=False)
class Rounded:
    """A residual layer with two maps of its own.

    Attributes:
        A: the map up.
        V: the adjoint of the map down, of the same kind and geometry as A.
        activation: between them.
        skip: the node of the skip connection, None where it is the input itself.
    """

    A: Up
    V: Up
    activation: Activation
    skip: Node | None

    @property
    def units(self) -> int:
        """Length of the step."""
        return len(weight(self.A))

    def exact(self, step: Float[np.ndarray, " units"]) -> Network:
        """The layer with the exact adjoint of A behind the step."""
        A = self.A
        if isinstance(A, OnAxis):
            every = np.tile(np.repeat(step, A.after), A.before)
        else:
            every = np.repeat(step, A.outputs // len(step))
        b = Builder((A.inputs,))
        hidden = b.add(Diagonal(every), b.add(self.activation, b.add(A, 0)))
        skip = 0 if self.skip is None else b.add(self.skip.op, 0)
        return b.finish(b.add(Sum((1, -1), A.inputs), skip, b.add(Transposed(A), hidden)))


def rounded(goal: Goal, proof: Proof, prove: Prove) -> float:
    """The constant of the layer with the exact adjoint, and what the rounding adds."""
    layer = rounded_layer(goal.network)
    if layer is None or len(proof.parts) != 1:
        raise NotProvable(
            "`rounded` is about h x - V act(A x + b) with V near the adjoint of A, and needs one part."
        )
    step = array(proof, "step", (layer.units,), least=0.0)
    bound = prove(Goal(layer.exact(step)), proof.parts[0])
    slope = float(np.maximum(abs(layer.activation.alpha), abs(layer.activation.beta)).max())
    U, V = weight(layer.A), weight(layer.V)
    product = U * step.reshape(-1, *(1,) * (U.ndim - 1))
    apart = (abs(V - product) + 4 * UNIT * (abs(V) + abs(product)) + TINY) * GENEROUS
    lost = up(
        up(slope * row_and_column_sums(with_weight(layer.A, apart)))
        * row_and_column_sums(with_weight(layer.A, abs(U)))
    )
    return up(bound + lost)


def rounded_layer(network: Network) -> Rounded | None:
    """The layer that a network is, None where it is none. Shifts play no role."""
    skip, way = residual_path(network)
    if len(way) != 3:
        return None
    down, activation, above = (node.op for node in way)
    side = None if skip == 0 else network.made(skip)
    if side is not None and (not isinstance(side.op, Diagonal) or side.inputs != (0,)):
        return None
    if not isinstance(above, Dense | OnAxis | Convolution) or not isinstance(activation, Activation):
        return None
    V = adjoint_of(down) if isinstance(down, AbstractLinear) else None
    return None if V is None or not _alike(above, V) else Rounded(above, V, activation, side)


def adjoint_of(op: AbstractLinear) -> Up | None:
    r"""U with $U^\top$ the operator, where it is known."""
    if isinstance(op, Transposed) and isinstance(op.of, Dense | OnAxis | Convolution):
        return op.of
    if isinstance(op, Dense):
        return Dense(op.W.T)
    if isinstance(op, OnAxis):
        return OnAxis(op.W.T, op.before, op.after)
    if not isinstance(op, Convolution) or any(s != 1 for s in op.stride):
        return None
    pads = tuple((r - a, r - b) for r, (a, b) in zip(op.reach, op.pads, strict=True))
    if any(min(pad) < 0 or (op.circular and sum(pad) != r) for pad, r in zip(pads, op.reach, strict=True)):
        return None
    K = op.K.reshape(op.groups, -1, *op.K.shape[1:]).swapaxes(1, 2)
    K = np.flip(K, tuple(range(3, K.ndim))).reshape(-1, op.K.shape[0] // op.groups, *op.K.shape[2:])
    return Convolution(
        np.ascontiguousarray(K), op.output_size, op.stride, pads, op.dilation, op.groups, op.circular
    )


def weight(op: Up) -> Float[np.ndarray, "units ..."]:
    """The numbers of a map, hidden units first."""
    return op.K if isinstance(op, Convolution) else op.W


def with_weight(op: Up, W: Float[np.ndarray, "units ..."]) -> Up:
    """The same map with other numbers and no shift."""
    return replace(op, K=W, b=None) if isinstance(op, Convolution) else replace(op, W=W, b=None)


def _alike(A: Up, V: Up) -> bool:
    """Whether two maps differ in their numbers alone."""
    if (
        type(A) is not type(V)
        or weight(A).shape != weight(V).shape
        or (A.inputs, A.outputs) != (V.inputs, V.outputs)
    ):
        return False
    if isinstance(A, OnAxis) and isinstance(V, OnAxis):
        return (A.before, A.after) == (V.before, V.after)
    if isinstance(A, Convolution) and isinstance(V, Convolution):
        fields = ("image_size", "stride", "pads", "dilation", "groups", "circular")
        return all(vars(A)[name] == vars(V)[name] for name in fields)
    return True

r"""Rule `residual`: $f(x) = h x - A^\top S \sigma(A x + b)$ with a diagonal $S \ge 0$ and slopes of $\sigma$ in $[0, \beta]$ (SLL, Theorem 3).

Increments of f are $J \Delta x$ with $J = h I - A^\top S D A$ and a diagonal $0 \le D \le \beta$ of difference quotients. $A^\top S D A$ is
symmetric, at least 0, and at most $A^\top \mathrm{diag}(k) A$ with $k = s \beta$. With $W = A^\top$ and $t \le 1 / k$ the statement $W^\top W
\preceq c^2\,\mathrm{diag}(t)$ gives $W\,\mathrm{diag}(k) W^\top \preceq c^2 I$, so the eigenvalues of J lie between $h - c^2$ and h, and the
bound is $\max(|h|, c^2 - h)$. Units with $k = 0$ or a zero row of A take no part. Where t lives on channels, the largest k of a channel
counts.

Data: `c`; of a convolution also `every_size` and `grid`, as for the rule `norm`.
"""

from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.powers import nonzero
from sdplip.arithmetic.rounding import TINY, up
from sdplip.errors import NotProvable, SdplipError
from sdplip.kernel.condition.dense import holds
from sdplip.kernel.data import number
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.rules.norm import convolution_proven
from sdplip.network import (
    AbstractLinear,
    Activation,
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

Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Block:
    """A residual layer that was recognised.

    Attributes:
        A: the map up, a matrix, a matrix on an axis, or a convolution.
        k: bound of step times slope, one a hidden unit or channel, 0 where a unit takes no part.
        h: factor of the skip connection.
    """

    A: Dense | OnAxis | Convolution
    k: Vector
    h: float

    @property
    def t(self) -> Vector:
        """At most $1 / k$; 1 where a unit takes no part."""
        return np.nextafter(1 / np.where(self.k > 0, self.k, 1.0), 0)

    @property
    def weight(self) -> Float[np.ndarray, "hidden features *taps"]:
        """The weight, with rows of 0 where a unit takes no part."""
        W = self.A.K if isinstance(self.A, Convolution) else self.A.W
        return W * (self.k > 0).reshape(-1, *(1,) * (W.ndim - 1))


def residual(goal: Goal, proof: Proof, prove: Prove) -> float:  # noqa: ARG001
    """$\\max(|h|, c^2 - h)$."""
    block = block_of(goal.network)
    if block is None:
        raise NotProvable(
            "`residual` is about h x - A' S act(A x + b) with slopes from 0 on, which this part is not."
        )
    if not nonzero(block.weight).any():
        return abs(block.h)
    c = number(proof, "c")
    try:
        proven = _holds(block, proof, c)
    except NotProvable:
        raise
    except SdplipError as error:
        raise NotProvable(str(error)) from None
    if not proven:
        raise NotProvable(f"W^T W <= c^2 T is not proven for c = {c} of a residual layer.")
    return max(abs(block.h), up(up(c * c) - block.h))


def _holds(block: Block, proof: Proof, c: float) -> bool:
    W, t = block.weight, block.t
    if isinstance(block.A, Convolution):
        return convolution_proven(block.A, W, t, "residual", proof, c)
    return holds(W.T, t, c)


def block_of(network: Network) -> Block | None:
    """The residual layer that a network is; None where it is none. Every node of a network is used, so what is not looked at here
    is not there."""
    skip, way = residual_path(network)
    h = _factor(network, skip)
    if h is None or len(way) not in (3, 4):
        return None
    down, *steps, hidden, A = (node.op for node in way)
    step = np.ones(down.inputs) if isinstance(down, Transposed) else np.ones(0)
    for op in steps:
        if not isinstance(op, Diagonal) or op.b is not None or op.error or (op.d < 0).any():
            return None
        step = op.d
    if not isinstance(down, Transposed) or down.b is not None:
        return None
    if not isinstance(hidden, Activation) or (hidden.alpha < 0).any():
        return None
    if not isinstance(A, Dense | OnAxis | Convolution) or not same_map(A, down.of):
        return None
    k = np.where(
        (step > 0) & (hidden.beta > 0), np.maximum(np.nextafter(step * hidden.beta, np.inf), TINY), 0.0
    )
    return Block(A, _of_channels(A, k), h)


def residual_path(network: Network) -> tuple[int, list[Node]]:
    """Of a network $s - u$ the value s, and the nodes in a row that make u of the input, last one first; none of another network."""
    last, way = network.nodes[-1], list[Node]()
    if not isinstance(last.op, Sum) or sorted(last.op.signs) != [-1, 1]:
        return 0, []
    skip, value = (last.inputs[last.op.signs.index(sign)] for sign in (1, -1))
    while value:
        way.append(network.made(value))
        if len(way[-1].inputs) != 1:
            return 0, []
        value = way[-1].inputs[0]
    return skip, way


def same_map(A: AbstractLinear, B: AbstractLinear) -> bool:
    """Whether two operators are the same linear map, shifts aside, bit for bit."""
    if A is B:
        return True
    if type(A) is not type(B):
        return False
    one, two = ({k: v for k, v in vars(op).items() if k != "b" and not k.startswith("_")} for op in (A, B))
    return one.keys() == two.keys() and all(
        np.array_equal(one[k], two[k]) if isinstance(one[k], np.ndarray) else one[k] == two[k] for k in one
    )


def _factor(network: Network, value: int) -> float | None:
    """h where a value is h times the input; None where it is something else."""
    if value == 0:
        return 1.0
    node = network.made(value)
    op = node.op
    if (
        node.inputs != (0,)
        or not isinstance(op, Diagonal)
        or op.b is not None
        or op.error
        or (op.d != op.d[0]).any()
    ):
        return None
    return float(op.d[0])


def _of_channels(A: Dense | OnAxis | Convolution, k: Vector) -> Vector:
    """The largest of each hidden unit, or channel, of which 0 where all are 0 or its weights are."""
    if isinstance(A, OnAxis):
        most = k.reshape(A.before, -1, A.after).max((0, 2))
    elif isinstance(A, Convolution):
        most = k.reshape(len(A.K), -1).max(1)
    else:
        most = k
    W = A.K if isinstance(A, Convolution) else A.W
    return np.where(nonzero(W).reshape(len(W), -1).any(1), most, 0.0)

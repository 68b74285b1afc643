r"""Rule `patterns`: a piecewise linear network by cases, which hinge is on which side.

The network is made of hinges $v_i = \max(0, y_i)$ (`kernel.hinges`). A tree asks one hinge after the other for its side: every fork has a
branch with $v_i = 0$, $y_i \le 0$ and one with $v_i = y_i \ge 0$. A segment between two points of the (convex) region consists of finitely
many parts on each of which every hinge is on one side all along, so each part lies in some leaf of the tree. Hence the largest constant of a
leaf is one of the network, and a leaf that no point of the region is in needs none.

**A bounded leaf.** In the increments x, v of its open hinges, f is linear, $f = F (x, v)$, and $0 \le v_i / y_i \le 1$. So with $\lambda \ge 0$ ::

    kappa |x|^2 + sum_i lambda_i v_i (v_i - y_i) - |F (x, v)|^2 >= 0   for all x and v

proves $\sqrt\kappa$ there, as in `joint`; without open hinges this is $F^\top F \preceq \kappa$.

**An empty leaf.** Rows that are at least 0 at every point in it, affine in x and the values v of open hinges: $y_i$ or $-y_i$ of decided hinges;
of open ones $v_i$ and $v_i - y_i$, and on a bounded region $u_i (y_i - l_i) / (u_i - l_i) - v_i$ with ends $l_i < 0 < u_i$ of $y_i$ there
(`kernel.sides`); there also $y_i - l_i$ and $u_i - y_i$ of any hinge, against the side of one to which the region leaves only the other. Some
of them add up to something negative. On a region: with given weights the sum is below 0 for all x of the region and $0 \le v_i \le u_i$. On
all inputs: the rows that are named have coefficients in one column less than there are rows, and are proven to have positive weights with
which all coefficients cancel and what is left is negative. The rows may be those of a larger set of points, where it is forgotten that
hinges of the first layers are on: a layer of few hinges that are on maps to a space of few dimensions, in which rows behind it cancel for
every member of their enclosures.

Data: `kappa`; `fork`, the tree in preorder, the branch $v_i = 0$ first: the number of a hinge, -1 a bounded leaf, -2 an empty one;
`multipliers`, of the open hinges of each bounded leaf; of each empty one `base`, how many layers forget, `count`, how many rows it adds up; of
all of them `rows`, which (hinge plus number of hinges times 0, 1, 2, 3, 4, 5 in the order above), and `weights`, none if the region is all
inputs. Parts: none.
"""

from collections.abc import Iterator

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import up
from sdplip.arithmetic.semidefinite import which
from sdplip.errors import NotProvable
from sdplip.kernel.data import array, number, wholes
from sdplip.kernel.hinges import Hinges, Patterns, hinged, open_first, reduced
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.sides import KINDS, Sides, empty, sides
from sdplip.shapes import Bool, Float, Int

BOUNDED, EMPTY = -1, -2
MOST = 1 << 22
"""Forks and leaves of a tree, at most."""
AT_ONCE = 1 << 20
"""Numbers of the matrices of leaves that are proven together."""


def patterns(goal: Goal, proof: Proof, prove: Prove) -> float:  # noqa: ARG001
    """$\\sqrt\\kappa$ where every leaf is bounded or empty."""
    if goal.norm == "linf" and goal.network.outputs > 1:
        raise NotProvable("`patterns` bounds the Euclidean norm of all outputs. Use `rows` for the largest.")
    if goal.region is not None and goal.region.inputs != goal.network.inputs:
        raise NotProvable("`patterns` needs a region of the inputs of the network.")
    hinges = hinged(goal.network)
    kappa = number(proof, "kappa")
    bounded, nothing = leaves(wholes(proof, "fork", None, EMPTY, hinges.order - 1), hinges.order)
    _all_bounded(hinges, bounded, proof, kappa)
    if len(nothing) and not goal.values:
        raise NotProvable(
            "A leaf is empty for the values of a network, but here it is known by its increments only."
        )
    _all_empty(hinges, nothing, proof, sides(hinges, goal.region))
    return up(float(np.sqrt(kappa)))


def leaves(fork: tuple[int, ...], order: int) -> tuple[Patterns, Patterns]:
    """The patterns of bounded and of empty leaves, in preorder.

    Raises:
        NotProvable: the tree does not hang together, or asks a hinge twice.
    """
    if not 1 <= len(fork) <= MOST:
        raise NotProvable(f"The tree of `patterns` must have 1 to {MOST} nodes.")
    found: dict[int, list[np.ndarray]] = {BOUNDED: [], EMPTY: []}
    todo = [np.full(order, -1, np.int8)]
    for i in fork:
        if not todo:
            raise NotProvable("The tree of patterns goes on behind its last leaf.")
        pattern = todo.pop()
        if i < 0:
            found[i].append(pattern)
        elif pattern[i] != -1:
            raise NotProvable(f"The tree of patterns asks hinge {i} twice on one way.")
        else:
            for side in (1, 0):
                branch = pattern.copy()
                branch[i] = side
                todo.append(branch)
    if todo:
        raise NotProvable("The tree of patterns ends before its last leaf.")
    return tuple(np.array(found[k], np.int8).reshape(-1, order) for k in (BOUNDED, EMPTY))  # type: ignore[return-value]


def bounded_by(
    hinges: Hinges,
    patterns: Patterns,
    multipliers: Float[np.ndarray, "batch hinges"],
    kappa: Float[np.ndarray, " batch"] | float,
) -> Bool[np.ndarray, " batch"]:
    """Of which patterns the inequality is proven; multipliers of decided hinges play no role."""
    size = max(1, AT_ONCE // (hinges.y.shape[1] ** 2))
    kappas = np.broadcast_to(kappa, (len(patterns),))
    parts = [slice(k, k + size) for k in range(0, len(patterns), size)]
    found = [which(inequality(hinges, patterns[k], multipliers[k], kappas[k])) for k in parts]
    return np.concatenate([np.zeros(0, bool), *found])


def inequality(
    hinges: Hinges,
    patterns: Patterns,
    multipliers: Float[np.ndarray, "batch hinges"],
    kappa: Float[np.ndarray, " batch"],
) -> Enclosure:
    """The matrices of the inequality, in inputs and open hinges: 1 on the diagonal of decided ones that make all as large, whose
    rows are 0 otherwise."""
    n, count = hinges.inputs, len(patterns)
    at, columns = open_first(n, patterns)
    y, out = reduced(hinges, patterns)
    y, out = y[np.arange(count)[:, None, None], at[:, :, None], columns[:, None]], _columns(out, columns)
    open_ = np.take_along_axis(patterns, at, 1) < 0
    lam = np.where(open_, np.take_along_axis(multipliers, at, 1), 0.0)
    M = -(out.T @ out)
    half = y * (lam / 2)[:, :, None]
    above = np.zeros((count, n, columns.shape[1]))
    side = Enclosure(np.concatenate([above, half.mid], 1), np.concatenate([above, half.radius()], 1))
    on_inputs = np.broadcast_to(kappa[:, None], (count, n))
    return (M - side - side.T).plus_diagonal(np.concatenate([on_inputs, np.where(open_, lam, 1.0)], 1))


def _columns(M: Enclosure, columns: Int[np.ndarray, "batch columns"]) -> Enclosure:
    """Some columns of each matrix of a batch."""
    return M[np.arange(len(columns))[:, None, None], np.arange(M.shape[1])[:, None], columns[:, None]]


def _all_bounded(hinges: Hinges, patterns: Patterns, proof: Proof, kappa: float) -> None:
    """Checks the bounded leaves."""
    open_ = patterns < 0
    multipliers = np.zeros(patterns.shape)
    multipliers[open_] = array(proof, "multipliers", (int(open_.sum()),), least=0.0)
    if not bounded_by(hinges, patterns, multipliers, kappa).all():
        raise NotProvable(f"A leaf of the tree is not proven to be bounded with kappa = {kappa}.")


def _all_empty(hinges: Hinges, patterns: Patterns, proof: Proof, where: Sides) -> None:
    """Checks the empty leaves."""
    count = wholes(proof, "count", len(patterns), 1, KINDS * hinges.order)
    rows = np.array(wholes(proof, "rows", sum(count), 0, KINDS * hinges.order - 1), np.int64)
    weights = array(proof, "weights", (0 if where.region is None else len(rows),), least=0.0)
    base = np.array(wholes(proof, "base", len(patterns), 0, len(hinges.layers)), np.int64)
    if not all(_each_empty(hinges, where, patterns, base, np.array(count, np.int64), rows, weights)):
        raise NotProvable("A leaf of the tree is said to be empty, but it may not be.")


def _each_empty(
    hinges: Hinges,
    where: Sides,
    patterns: Patterns,
    base: Int[np.ndarray, " leaves"],
    count: Int[np.ndarray, " leaves"],
    rows: Int[np.ndarray, " k"],
    weights: Float[np.ndarray, " k"],
) -> Iterator[bool]:
    ends = np.cumsum(count)
    size = max(1, AT_ONCE // (hinges.y.shape[1] ** 2))
    for k in range(0, len(patterns), size):
        some = slice(k, k + size)
        named = [slice(end - own, end) for end, own in zip(ends[some], count[some], strict=True)]
        given = [weights[at] for at in named] if where.region is not None else None
        yield bool(empty(hinges, where, patterns[some], base[some], [rows[at] for at in named], given).all())

"""Rows of matrices carried through linear operators, rounding included: what every rule about increments is made of."""

import numpy as np

from sdplip.arithmetic.matrix import Enclosure, enclose
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.subnormal import holds_subnormals
from sdplip.network import (
    LARGEST,
    AbstractLinear,
    Activation,
    Concatenate,
    Dense,
    Diagonal,
    Network,
    Node,
    Sum,
    Transposed,
    is_linear,
)
from sdplip.shapes import Float

Matrix = Float[np.ndarray, "m n"]
HEAD = 1024
"""Rows of a linear map behind convolutions, at most."""


def through(op: AbstractLinear, S: Enclosure) -> Enclosure:
    r"""$A^* S^*$ for every member $S^*$ of S, `(inputs, columns)`, and every $|A^* - A| \le$ `op.error` $|A|$.

    Raises:
        NotProvable: more than `LARGEST` entries.
    """
    if op.outputs * S.shape[1] > LARGEST:
        raise NotProvable(
            f"A matrix of {op.outputs} x {S.shape[1]} entries is larger than the {LARGEST} that a dense proof may hold. Use the"
            " method 'product', 'frequency' or 'banded'."
        )
    if isinstance(op, Diagonal):
        return S * Enclosure.of(op.d, op.error)[:, None]
    exact = _selects(S.mid)
    mid = op.dense() if exact and _is_identity(S.mid) else _apply(op, S.mid)
    if op.terms == 0:  # entries move, nothing is computed
        return Enclosure(mid, _apply(op, S.rad) if S.rad.any() else S.rad[:1])
    if exact and not op.error and not S.rad.any():
        return enclose(mid, TINY * holds_subnormals(op))
    if isinstance(op, Dense) and not exact:
        return _differences(op.W, S) if _is_difference(op.W) else Enclosure.of(op.W, op.error) @ S
    absolute = op.absolute()
    largest = float(_apply(absolute, np.ones((op.inputs, 1))).max(initial=0.0))
    lost = 8 * (op.terms + 2) * TINY * (1 + largest) * (1 + float(abs(S.mid).max(initial=0.0)))
    rad = _apply(absolute, S.rad) * (1 + op.error) if S.rad.any() else np.zeros((1, 1))
    relative = op.error + (0.0 if exact else gamma(op.terms + 2))
    if relative:
        rad = rad + relative * (abs(mid) if exact else _apply(absolute, abs(S.mid)))
    return enclose(mid, (rad + lost) * GENEROUS**2)


def added(signs: tuple[int, ...], parts: list[Enclosure]) -> Enclosure:
    """A sum of rows with signs."""
    total = parts[0] if signs[0] == 1 else -parts[0]
    for sign, S in zip(signs[1:], parts[1:], strict=True):
        total = total + S if sign == 1 else total - S
    return total


def stacked(parts: list[Enclosure]) -> Enclosure:
    """Rows one below the other."""
    mid = np.concatenate([S.mid for S in parts])
    if not any(S.rad.any() for S in parts):
        return Enclosure(mid, np.zeros((1, 1)))
    return Enclosure(mid, np.concatenate([S.radius() for S in parts]))


def step(node: Node, rows: list[Enclosure]) -> Enclosure:
    """The rows behind a node that is linear (`is_linear`), from those in front."""
    op = node.op
    if isinstance(op, Sum):
        return added(op.signs, rows)
    if isinstance(op, Concatenate):
        return stacked(rows)
    if isinstance(op, Activation):
        return rows[0] * op.alpha[:, None]
    assert isinstance(op, AbstractLinear)
    return through(op, rows[0])


def matrix(network: Network) -> Enclosure:
    """The matrix of a network that is linear in all of its nodes.

    Raises:
        NotProvable: it is not, or a matrix on the way has more than `LARGEST` entries.
    """
    if not all(is_linear(node.op) for node in network.nodes):
        raise NotProvable("A dense matrix is asked for of what is not linear.")
    rows = dict[int, Enclosure]()
    try:
        for k, node in enumerate(network.nodes, 1):
            if node.inputs == (0,) and isinstance(node.op, AbstractLinear):
                rows[k] = entries(node.op)  # without an identity matrix, which may be much larger
                continue
            if 0 in node.inputs and 0 not in rows:
                rows[0] = identity(network.inputs)
            rows[k] = step(node, [rows[i] for i in node.inputs])
            for i in dict.fromkeys(node.inputs):
                if network.users[i][-1] == k:
                    del rows[i]
    except InvalidProblem as error:
        raise NotProvable(str(error)) from None
    return rows[network.output]


def entries(op: AbstractLinear) -> Enclosure:
    """The matrix of an operator, with the errors of its entries.

    Raises:
        InvalidProblem: more than `LARGEST` entries.
    """
    mid = op.dense()
    if op.error:
        return Enclosure.of(mid, op.error)
    return enclose(mid, TINY * holds_subnormals(op))


def head(network: Network, start: int, end: int) -> Enclosure:
    """The matrix of what is linear between two values, a chain of linear maps with few outputs.

    Raises:
        NotProvable: it is something else, or has more than `HEAD` outputs.
    """
    ops = list[AbstractLinear]()
    for k in range(start + 1, end + 1):
        node = network.made(k)
        if not isinstance(node.op, AbstractLinear) or node.inputs != (k - 1,):
            raise NotProvable(
                f"Layer {k}, a {node.title}, is not linear: the map behind convolutions is a chain of linear maps."
            )
        ops.append(node.op)
    if not ops or ops[-1].outputs > HEAD or end not in network.cuts:
        raise NotProvable(f"Behind the convolutions a linear map of at most {HEAD} outputs is needed.")
    rows = Enclosure.exact(np.eye(ops[-1].outputs))
    for op in reversed(ops):
        rows = through(Transposed(op), rows)
    return rows.T


def identity(n: int) -> Enclosure:
    """The identity matrix.

    Raises:
        InvalidProblem: more than `LARGEST` entries.
    """
    if n * n > LARGEST:
        raise InvalidProblem(f"An identity matrix of order {n} has more than {LARGEST} entries.")
    return Enclosure(np.eye(n), np.zeros((1, 1)))


def _is_difference(W: Matrix) -> bool:
    """Whether every row is an entry, or the sum or difference of two: single outputs and pairs of them."""
    nonzero = W != 0
    return bool((nonzero.sum(1) <= 2).all() and (abs(W[nonzero]) == 1).all())


def _differences(W: Matrix, S: Enclosure) -> Enclosure:
    """Products with such a matrix: one rounding an entry, none where there is one term."""
    mid = W @ S.mid
    rad = abs(W) @ np.broadcast_to(S.rad, (len(S), S.rad.shape[1])) if S.rad.any() else np.zeros((1, 1))
    two = (W != 0).sum(1, keepdims=True) > 1
    return enclose(mid, (rad + two * (UNIT * abs(mid)) + 4 * TINY) * GENEROUS**2)


def _apply(op: AbstractLinear, S: Matrix) -> Matrix:
    if len(S) == 1 != op.inputs:  # one radius for all rows
        S = np.broadcast_to(S, (op.inputs, S.shape[1]))
    return np.ascontiguousarray(op.apply(np.ascontiguousarray(S.T)).T)


def _selects(S: Matrix) -> bool:
    """Whether every column holds at most one entry that is not 0, and that is 1 or -1: products with S are exact."""
    if np.count_nonzero(S[:, :1]) > 1:
        return False
    nonzero = S != 0
    return bool((nonzero.sum(0) <= 1).all() and (abs(S[nonzero]) == 1).all())


def _is_identity(S: Matrix) -> bool:
    return S.shape[0] == S.shape[1] and bool((S.diagonal() == 1).all()) and np.count_nonzero(S) == len(S)

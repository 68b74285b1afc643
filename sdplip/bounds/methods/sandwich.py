r"""Pairs of matrices that were made as one sandwich layer: spans of the product.

$x \mapsto G\, \sigma(F x + b)$ with slopes of $\sigma$ in $[0, \beta]$ is 1-Lipschitz where $\frac{\beta^2}{2} G^\top G + \frac12 S F F^\top S
\preceq S$ for a diagonal S (Wang and Manchester, ICML 2023, Theorem 3.2), and a sandwich layer makes both sides equal. So off the diagonal $s_i
s_j = -\beta^2 (G^\top G)_{ij} / (F F^\top)_{ij}$, which gives S by least squares of logarithms. The rule `chain` proves, with the multipliers
$2 s / \beta^2$.

Of two convolutions both sides are equal at every frequency, so their means over all frequencies are, which are products of kernels summed over
the taps (Parseval); there the rule `frequency` proves.
"""

from contextlib import suppress
from itertools import product

import numpy as np
from jaxtyping import Float

from sdplip.bounds.numerics.chain_proof import chain_proof
from sdplip.bounds.numerics.stationary import exponents, stationary_proof
from sdplip.bounds.task import Task
from sdplip.errors import NotProvable
from sdplip.kernel.proof import Proof
from sdplip.kernel.stages import stages
from sdplip.kernel.stationary import plan
from sdplip.network import LARGEST, Activation, Convolution, Dense, Diagonal, Network, is_linear
from sdplip.proposals import certify_convolution

APART = 1e-2
"""How far both sides of the equation may lie apart, relative to S: weights were rounded."""

FEW = 4
"""Units up to which all solutions of the diagonal are tried."""
TINY = 1e-300

Matrix = Float[np.ndarray, "n n"]
Vector = Float[np.ndarray, " n"]


def sandwich_spans(network: Network) -> list[tuple[int, int, Proof]]:
    """Start, end and proof of every pair of matrices that is a sandwich layer."""
    found = []
    for k, node in enumerate(network.nodes, 1):
        if not isinstance(node.op, Activation) or node.op.alpha.min() < 0 or is_linear(node.op):
            continue
        start, end = _before(network, node.inputs[0]), _behind(network, k)
        if start is not None and end is not None:
            proof = sandwich_proof(network.between(start, end))
            found += [] if proof is None else [(start, end, proof)]
    return found


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def sandwich_proof(network: Network) -> Proof | None:
    """The proof of a sandwich layer; None where it is none, or its two norms prove less."""
    if isinstance(network.nodes[0].op, Convolution):
        return _of_images(network)
    with suppress(NotProvable, np.linalg.LinAlgError):
        parts = stages(network)
        (F, G), (_, beta) = (W.mid for W in parts.weights), parts.slopes[0]
        S = diagonal((beta[:, None] * G.T) @ (G * beta), F @ F.T) if (beta > 0).all() else None
        if S is None:
            return None
        (F, G), (_, beta) = parts.weights, parts.slopes[0]
        bound, proof = chain_proof(Task(network), parts, (2 * S / beta**2,))
        return proof if bound < beta.max() * np.linalg.norm(F.mid, 2) * np.linalg.norm(G.mid, 2) else None
    return None


def _of_images(network: Network) -> Proof | None:
    """The same of two convolutions, with slopes from 0 on: with others `frequency` states another inequality."""
    first, bend, last = (node.op for node in network.nodes) if len(network.nodes) == 3 else (None,) * 3
    if not (
        isinstance(first, Convolution) and isinstance(bend, Activation) and isinstance(last, Convolution)
    ):
        return None
    beta = float(bend.beta.max())
    if not beta > 0 or bend.alpha.any() or first.groups != 1 or last.groups != 1:
        return None
    F, G = first.K.reshape(len(first.K), -1), last.K.swapaxes(0, 1).reshape(last.K.shape[1], -1)
    with suppress(NotProvable, np.linalg.LinAlgError):
        S = diagonal(beta**2 * (G @ G.T), F @ F.T)
        if S is None:
            return None
        planned = plan(network, network.output)
        (e,) = exponents(planned)
        lam = np.ldexp(2 * S / beta**2, 2 * e)
        bound, proof = stationary_proof(network, planned, dict.fromkeys(planned.unknowns, lam))
        apart = [
            certify_convolution(op.K, np.ones(op.K.shape[1]), op.geometry(), witness=False).c
            for op in (first, last)
        ]
        return proof if bound < beta * apart[0] * apart[1] else None
    return None


def diagonal(P: Matrix, Q: Matrix) -> Vector | None:
    r"""S with $P / 2 + S Q S / 2 \preceq S$ of $P = \beta^2 G^\top G$ and $Q = F F^\top$; None where both sides are never nearly equal."""
    starts = _of_units(P, Q) if len(P) <= FEW else [_of_pairs(P, Q)]
    polished = (_polished(P, Q, S) for S in starts)
    apart, S = min(((_apart(P, Q, S), S) for S in polished), key=lambda one: one[0])
    return S / (np.linalg.eigvalsh(_both(P, Q, S))[-1] * (1 + 1e-13)) if apart < APART else None


def _of_units(P: Matrix, Q: Matrix) -> list[Vector]:
    """Both solutions of the diagonal of the equation, of few units in all combinations."""
    p, q = P.diagonal(), np.maximum(Q.diagonal(), TINY)
    root = np.sqrt(np.maximum(1 - p * q, 0.0))
    signs = np.array(list(product((-1, 1), repeat=len(p))))
    return list(np.maximum((1 + signs * root) / q, TINY))


def _of_pairs(P: Matrix, Q: Matrix) -> Vector:
    """The solution off the diagonal, by least squares of logarithms that count as much as the products are large."""
    n = len(P)
    w = np.where(P * Q < 0, np.sqrt(abs(P * Q)), 0.0) * (1 - np.eye(n))
    log = np.log(np.where(w > 0, -P, 1.0) / np.where(w > 0, Q, 1.0))
    x = np.linalg.lstsq(np.diag(w.sum(1)) + w, (w * log).sum(1), rcond=None)[0]
    return np.where(w.any(1), np.exp(x), 1 / np.maximum(Q.diagonal(), TINY))


def _polished(P: Matrix, Q: Matrix, S: Vector) -> Vector:
    """Two steps of Gauss and Newton for all entries of the equation, relative to S, in the logarithms of S."""
    for _ in range(2):
        M, rest = np.sqrt(np.outer(S, S)) * Q / 2, _both(P, Q, S) - np.eye(len(S))
        J = M + np.diag(M.diagonal() - 1)
        squares = J * J
        H, g = squares + np.diag(squares.sum(1) - squares.diagonal()), (J * rest).sum(1)
        if not (np.isfinite(H).all() and np.isfinite(g).all()):  # LAPACK would say so on the terminal
            break
        S = S * np.exp(np.clip(-np.linalg.lstsq(H, g, rcond=None)[0], -1, 1))
    return S


def _both(P: Matrix, Q: Matrix, S: Vector) -> Matrix:
    """The left side of the equation, relative to S."""
    root = np.sqrt(np.outer(S, S))
    return (P / root + root * Q) / 2


def _apart(P: Matrix, Q: Matrix, S: Vector) -> float:
    """How far both sides of the equation lie apart, relative to S; infinite where S is no diagonal."""
    if not (np.isfinite(S).all() and (S > 0).all()):
        return np.inf
    rest = _both(P, Q, S) - np.eye(len(S))
    return float(np.linalg.norm(rest) / len(S) ** 0.5) if np.isfinite(rest).all() else np.inf


def _before(network: Network, value: int) -> int | None:
    """In front of the matrix that makes a value, diagonals behind it left aside."""
    while value and isinstance(network.made(value).op, Diagonal):
        (value,) = network.made(value).inputs
    return network.made(value).inputs[0] if value and _is_matrix(network, value) else None


def _behind(network: Network, value: int) -> int | None:
    """What the matrix makes that alone reads a value, diagonals in front of it left aside."""
    while len(network.users[value]) == 1:
        (value,) = network.users[value]
        if not isinstance(network.made(value).op, Diagonal):
            return value if _is_matrix(network, value) else None
    return None


def _is_matrix(network: Network, value: int) -> bool:
    op = network.made(value).op
    return isinstance(op, Convolution) or (isinstance(op, Dense) and op.W.size <= LARGEST)

r"""GLipSDP as CVXPY writes it: convolutions as two-dimensional systems, whose inequality holds for images of every size.

Pauli, Gramlich, Allgöwer, arXiv 2405.01125. A kernel of $r_1 \times r_2$ taps is the Roesser system

    x1(i + 1, j) = A11 x1 + A12 x2 + B1 u,    x2(i, j + 1) = A22 x2 + B2 u,    y(i, j) = C1 x1 + C2 x2 + D u,

with $c_{out} (r_1 - 1)$ partial sums x1 and $c_{in} (r_2 - 1)$ delayed inputs x2. The reference for `channels`, whose optimum
is never above: a metric `X_k` here is one matrix for all frequencies. Its own value is a solver's claim, an estimate; the
kernel proves what these multipliers are worth, frequency by frequency.
"""

import contextlib
import warnings
from dataclasses import dataclass
from math import prod

import cvxpy as cp
import numpy as np
from jaxtyping import Float

from sdplip.certificates.trunk import Trunk
from sdplip.errors import InvalidProblem
from sdplip.solvers.solution import Status


@dataclass(frozen=True, eq=False)
class StateSpace:
    """What the solver claims.

    Attributes:
        estimate: its Lipschitz constant for images of every size, not proven; infinite where it failed.
        multipliers: one vector a layer with activations, in the normalisation of `certificates.trunk`; empty where it failed.
        status: how it ended.
    """

    estimate: float
    multipliers: tuple[Float[np.ndarray, " channels"], ...]
    status: Status


def state_space(trunk: Trunk, solver: str = "CLARABEL") -> StateSpace:
    r"""Minimise $\rho$ over $\Lambda_k$, $P_k = \mathrm{diag}(P_1, P_2)$ and metrics $X_k$, $X_0 = \rho I$, subject to

    [ P - A'PA      -A'PB          -beta C'L  ]
    [    .       X_{k-1} - B'PB    -beta D'L  ]  >= 0  of every layer with activations, and what stands behind:
    [    .            .            2L - X_k   ]

    the same with $-[C, D]^\top [C, D]$ of a last convolution, $I \otimes X_K \succeq W^\top W$ of a head.

    Raises:
        InvalidProblem: kernels of more than two axes.
    """
    if any(K.ndim > 4 for K in trunk.kernels):
        raise InvalidProblem("The state-space form is for images of one or two axes. Use 'frequency'.")
    norms = [_size(K) for K in trunk.kernels]
    rho, lams, constraints = cp.Variable(nonneg=True), [], []
    X: cp.Expression = rho * np.eye(trunk.kernels[0].shape[1])
    for K, dilation, beta, norm in zip(trunk.kernels, trunk.dilations, trunk.slopes, norms, strict=True):
        lam, after = cp.Variable(len(K), nonneg=True), cp.Variable((len(K), len(K)), symmetric=True)
        inner, C = _dissipation(K / norm, dilation, X)
        L = cp.diag(lam)
        full = cp.bmat([[inner, -beta * C.T @ L], [-beta * L @ C, 2 * L - after]])
        constraints.append((full + full.T) / 2 >> 0)
        lams.append(lam)
        X = after
    scale, behind = _behind(trunk, X)
    problem = cp.Problem(cp.Minimize(rho), [*constraints, behind])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(cp.SolverError):
            problem.solve(solver=solver)
    if rho.value is None or not float(rho.value) > 0:
        return StateSpace(np.inf, (), Status.FAILED)
    squares = np.cumprod(np.square(norms))
    multipliers = tuple(
        np.maximum(2 * np.asarray(lam.value) / float(rho.value), 1e-12) / s
        for lam, s in zip(lams, squares, strict=True)
    )
    status = Status.OPTIMAL if problem.status == cp.OPTIMAL else Status.INACCURATE
    return StateSpace(scale * prod(norms) * float(rho.value) ** 0.5, multipliers, status)


def roesser(
    K: Float[np.ndarray, "out in r1 r2"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """A, B, C, D of the kernel whose `K[:, :, a, b]` reads input (i - a, j - b) for output (i, j), and the number of x1."""
    out, inputs, r1, r2 = K.shape
    first, second = out * (r1 - 1), inputs * (r2 - 1)
    A, B = np.zeros((first + second, first + second)), np.zeros((first + second, inputs))
    for a in range(1, r1):
        rows = slice(out * (a - 1), out * a)
        A[rows, first:] = K[:, :, a, 1:].transpose(0, 2, 1).reshape(out, second)
        B[rows] = K[:, :, a, 0]
        if a + 1 < r1:
            A[rows, out * a : out * (a + 1)] = np.eye(out)
    A[first + inputs :, first : first + second - inputs if second else first] = np.eye(
        max(second - inputs, 0)
    )
    if second:
        B[first : first + inputs] = np.eye(inputs)
    C = np.zeros((out, first + second))
    if first:
        C[:, :out] = np.eye(out)
    C[:, first:] = K[:, :, 0, 1:].transpose(0, 2, 1).reshape(out, second)
    return A, B, C, K[:, :, 0, 0], first


def _dissipation(
    K: np.ndarray, dilation: tuple[int, ...], X: cp.Expression
) -> tuple[cp.Expression, np.ndarray]:
    """The block of states and inputs in the inequality, and [C, D]."""
    A, B, C, D, first = roesser(_dilated(K, dilation))
    n, inputs = B.shape
    AB = np.concatenate([A, B], 1)
    parts = []
    for at, size in ((0, first), (first, n - first)):
        if size:
            P = cp.Variable((size, size), PSD=True)
            own, moved = np.eye(n + inputs)[at : at + size], AB[at : at + size]
            parts.append(own.T @ P @ own - moved.T @ P @ moved)
    last = np.eye(n + inputs)[n:]
    return sum(parts, last.T @ X @ last), np.concatenate([C, D], 1)


def _behind(trunk: Trunk, X: cp.Expression) -> tuple[float, cp.Constraint]:
    """The inequality of what stands behind, scaled, and its scale."""
    if trunk.last is not None:
        K, dilation = trunk.last
        scale = _size(K)
        inner, C = _dissipation(K / scale, dilation, X)
        inner = inner - C.T @ C
        return scale, (inner + inner.T) / 2 >> 0
    assert trunk.head is not None
    m, channels = trunk.head.shape[:2]
    W = trunk.head.reshape(m * channels, -1)
    if W.shape[1] > len(W):
        W = np.linalg.qr(W.T)[1].T  # a rotation of the pixels, which the metric does not see
    scale = float(np.linalg.norm(W))
    W = (W / scale).reshape(m, channels, -1).transpose(0, 2, 1)  # rows, pixels, channels
    wide = W.reshape(m, -1)
    full = cp.bmat([[np.eye(m), wide], [wide.T, cp.kron(np.eye(W.shape[1]), X)]])
    return scale, (full + full.T) / 2 >> 0


def _dilated(K: np.ndarray, dilation: tuple[int, ...]) -> np.ndarray:
    """The kernel with its zeros between the taps, of two axes."""
    size = [(r - 1) * d + 1 for r, d in zip(K.shape[2:], dilation, strict=True)]
    full = np.zeros((*K.shape[:2], *size))
    full[(slice(None), slice(None), *(slice(None, None, d) for d in dilation))] = K
    return full if K.ndim == 4 else full[..., None]


def _size(K: np.ndarray) -> float:
    """A norm of the size of the convolution's."""
    return float(np.linalg.norm(abs(K).sum(tuple(range(2, K.ndim))), 2))

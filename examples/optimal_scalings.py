r"""The optimal scalings whose answer is known: one function a problem, each returning (computed, theory).

python examples/optimal_scalings.py
"""

import numpy as np

from sdplip.geometry import Geometry
from sdplip.scalings import aol
from sdplip.solvers import CVXPY, ConvolutionMinTrace, MaxVolume, MinTrace, Nearest, ResidualLMI, solve

solver = CVXPY(eps=1e-8)


def rank_one() -> tuple[float, float]:
    r"""One row $w^\top$: the least trace is $\lVert w \rVert_1^2$, and AOL attains it."""
    w = np.array([3.0, -1.0, 2.0, 0.5])
    return solve(MinTrace(w[None, :]), solver).objective, float(abs(w).sum() ** 2)


def two_columns() -> tuple[float, float]:
    r"""$G = \begin{bmatrix} a & b \\ b & c \end{bmatrix}$ with costs p, r: the least cost is $pa + rc + 2 |b| \sqrt{pr}$."""
    W, cost = np.array([[1.0, 2.0], [0.5, -0.4]]), np.array([1.0, 4.0])
    (a, b), (_, c) = W.T @ W
    return solve(MinTrace(W, cost), solver).objective, float(
        cost @ [a, c] + 2 * abs(b) * np.sqrt(cost.prod())
    )


def orthogonal() -> tuple[float, float]:
    """An orthogonal matrix is its own best scaling: t = 1, so the sum of the logarithms is 0; here 1 is added."""
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    return 1 + solve(MaxVolume(Q), solver).objective, 1.0


def largest_box() -> tuple[float, float]:
    r"""One row: the box of greatest volume gives every unit the same share, $t_i = n w_i^2$."""
    w = np.array([3.0, -1.0, 2.0, 0.5])
    return solve(MaxVolume(w[None, :]), solver).objective, float(np.log(4 * w**2).sum())


def least_repair() -> tuple[float, float]:
    r"""From the target $\mathrm{diag}(G)$ of two columns the least change adds $|b|$ to both: $2 b^2$."""
    W = np.array([[1.0, 2.0], [0.5, -0.4]])
    G = W.T @ W
    return solve(Nearest(W, np.diag(G)), solver).objective, float(2 * G[0, 1] ** 2)


def sll_layer() -> tuple[float, float]:
    r"""$x - 2 W T^{-1} \sigma(W^\top x)$ has $\gamma = 1$ (SLL, Theorem 1)."""
    W = np.random.default_rng(0).normal(size=(5, 8))
    return solve(ResidualLMI(np.eye(5), -2 * W / aol(W), W), solver).objective, 1.0


def one_unit() -> tuple[float, float]:
    r"""$x \mapsto h x + g \sigma(w x)$ with slopes in $[-0.2, 1.1]$: the extreme slope decides."""
    h, g, w = 0.5, 1.5, -0.8
    problem = ResidualLMI(np.array([[h]]), np.array([[g]]), np.array([[w]]), -0.2, 1.1)
    return solve(problem, solver).objective, max((h - 0.2 * g * w) ** 2, (h + 1.1 * g * w) ** 2)


def difference_filter() -> tuple[float, float]:
    """One channel, taps (1, -1): the largest squared gain is 4, at the highest frequency of an even circle."""
    K = np.array([[[1.0, -1.0]]])
    geometry = Geometry(padding_mode="circular", image_size=(8,))
    return solve(ConvolutionMinTrace.from_kernel(K, geometry), solver).objective, 4.0


PROBLEMS = {
    f.__name__: f
    for f in (
        rank_one,
        two_columns,
        orthogonal,
        largest_box,
        least_repair,
        sll_layer,
        one_unit,
        difference_filter,
    )
}


def main() -> None:
    print(f"{'problem':20}{'computed':>14}{'theory':>14}{'difference':>12}")
    for name, problem in PROBLEMS.items():
        computed, theory = problem()
        print(f"{name:20}{computed:14.8f}{theory:14.8f}{computed - theory:12.1e}")


if __name__ == "__main__":
    main()

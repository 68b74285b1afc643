r"""Closed-form multipliers, layer by layer: any one-layer scaling bounds a whole network.

With the metric $X$ in front of a layer (rule `chain`) put $M = X^{-1/2} W^\top \mathrm{diag}(\alpha + \beta)$.
For every
scaling $T \succeq M^\top M$, such as those of `sdplip.scalings`, the multipliers $\lambda = 2 / t$ leave the metric
$2 T^{-1} - T^{-1} M^\top M T^{-1} \succeq T^{-1}$ behind the layer (slopes in $[0, 1]$). $T = \lambda_{\max} I$ is ECLipsE-Fast
(Xu and Sivaranjani 2024). With $\alpha \beta \ne 0$ the step $\theta / t$ is searched.

One scale a layer is free (Syed and Hu 2025): $2 c / t$ for any c between 0 and $2 / \lambda_{\max}(T^{-1/2} M^\top M T^{-1/2})$ leaves
$2 c T^{-1} - c^2 T^{-1} M^\top M T^{-1}$, which is concave in c, so that the norm of the next matrix behind it, $\lambda_{\max}(W X^{-1} W^\top)$,
is convex: `free` minimises it by golden section, layer by layer.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Float

from sdplip import scalings
from sdplip.bounds.numerics.chain import Chain, Proposal

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]
Scaling = Callable[[Matrix], Vector]


def diagonal(M: Matrix) -> Vector:
    r"""The diagonal of $M^\top M$ times the least factor that satisfies the condition."""
    t = (M * M).sum(0)
    return t * np.linalg.norm(M / np.sqrt(np.where(t > 0, t, 1.0)), 2) ** 2


def spectral(M: Matrix) -> Vector:
    r"""$\lVert M \rVert_2^2$ everywhere."""
    return np.full(M.shape[1], np.linalg.norm(M, 2) ** 2)


def min_trace(M: Matrix) -> Vector:
    """The scaling of least trace, by `sdplip.solve`."""
    from sdplip.solvers import MinTrace, solve

    return np.maximum(solve(MinTrace(M)).t, 1e-12 * (M * M).sum(0).max())


def near_one(scaling: Scaling) -> Scaling:
    r"""The same scaling, computed of a matrix near 1: it is homogeneous, $t(2^e M) = 4^e t(M)$."""

    def scaled(M: Matrix) -> Vector:
        top = float(abs(M).max(initial=0.0))
        if not 0 < top < np.inf:
            raise np.linalg.LinAlgError("no scaling: the numbers leave the range of double precision")
        e = int(np.frexp(top)[1])
        return np.ldexp(scaling(np.ldexp(M, -e)), 2 * e)

    return scaled


FAMILIES: Mapping[str, Scaling] = {
    "spectral": near_one(spectral),
    "aol": near_one(scalings.aol),
    "diagonal": near_one(diagonal),
    "min-trace": near_one(min_trace),
}
"""The scalings that `best` tries; "spectral" is ECLipsE-Fast."""


GOLDEN = (5**0.5 - 1) / 2
STEPS = 10
"""Of the search: the best scale to 0.5 % of its range."""


def riccati(chain: Chain, scaling: Scaling = FAMILIES["spectral"], *, free: bool = False) -> Proposal:
    """Multipliers from one scaling in every layer, with a `free` scale or 1."""
    return Proposal(tuple(_multipliers(chain, scaling, free)))


def _multipliers(chain: Chain, scaling: Scaling, free: bool) -> Iterator[Vector]:
    X = np.eye(chain.weights[0].shape[1])
    for W, following, (alpha, beta) in zip(chain.weights, chain.weights[1:], chain.slopes, strict=False):
        total = np.where(alpha + beta == 0, np.maximum(abs(alpha), abs(beta)), alpha + beta)
        M = np.linalg.solve(np.linalg.cholesky(X), W.T * total)
        t = scaling(M) * (1 + 1e-12)
        t = np.maximum(t, 1e-12 * t.max() + np.finfo(float).tiny)
        bent = (alpha * beta).any()
        steps = 2.0 ** -np.arange(-1, 24) if bent else (2.0,)
        found = [(lam := theta / t, metric_after(X, W, lam, alpha, beta)) for theta in steps]
        if free and not bent:
            most = 2 / max(float(np.linalg.norm(M / np.sqrt(t), 2)) ** 2, 1e-12)
            found += _searched(lambda c: metric_after(X, W, 2 * c / t, alpha, beta), 2 / t, most, following)  # noqa: B023
        usable = [(lam, Y) for lam, Y in found if Y is not None]
        if not usable:
            raise np.linalg.LinAlgError("no metric: the numbers leave the range of double precision")
        lam, X = min(usable, key=lambda pair: gain(pair[1], following))
        yield lam


def _searched(
    metric: Callable[[float], Matrix | None], once: Vector, most: float, following: Matrix
) -> list[tuple[Vector, Matrix | None]]:
    """The best scale of the multipliers `once` by golden section on (0, most), and the metric behind it."""

    def value(c: float) -> float:
        X = metric(c)
        return np.inf if X is None else gain(X, following)

    low, high = 0.0, most
    c, d = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_c, at_d = value(c), value(d)
    for _ in range(STEPS):
        if at_c <= at_d:
            high, d, at_d = d, c, at_c
            c = high - GOLDEN * (high - low)
            at_c = value(c)
        else:
            low, c, at_c = c, d, at_d
            d = low + GOLDEN * (high - low)
            at_d = value(d)
    best = c if at_c <= at_d else d
    return [(best * once, metric(best))]


def metric_after(X: Matrix, W: Matrix, lam: Vector, alpha: Vector, beta: Vector) -> Matrix | None:
    """The Riccati step in plain floating point, or None where the result is not positive definite."""
    C = W.T * ((alpha + beta) * lam / 2)
    if not (np.isfinite(lam).all() and np.isfinite(C).all()):
        return None
    try:
        Y = np.linalg.solve(np.linalg.cholesky(X + (W.T * (alpha * beta * lam)) @ W), C)
        after = np.diag(lam) - Y.T @ Y
        np.linalg.cholesky(after - 1e-13 * np.diag(lam))
    except np.linalg.LinAlgError:
        return None
    return (after + after.T) / 2


def gain(X: Matrix, W: Matrix) -> float:
    r"""$\lambda_{\max}(W X^{-1} W^\top)$: the squared norm of `W` as a map from the metric `X`."""
    M = np.linalg.solve(np.linalg.cholesky(X), W.T)
    return float(np.linalg.norm(M, 2) ** 2) if np.isfinite(M).all() else np.inf

r"""What interior-point iterations share: how far to go, and a Newton system that is scaled before it is factored."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

Matrices = Inexact[Tensor, "batch n n"]
Operator = Callable[[Inexact[Tensor, "batch n 1"]], Inexact[Tensor, "batch n 1"]]


def hermitian(M: Matrices) -> Matrices:
    """The Hermitian part of M."""
    return (M + M.mH).mul_(0.5)


def length(factor: Matrices, D: Operator, begin: Inexact[Tensor, "batch n 1"], tolerance: float) -> float:
    r"""Largest $\alpha$ with $L L^* + \alpha D \succeq 0$ in the whole batch, by Lanczos iteration on $L^{-1} D L^{-*}$.

    With the tolerances used here a few dozen products of a matrix and a vector; a factorization costs far more.
    """

    def congruent(v: Inexact[Tensor, "batch n 1"]) -> Inexact[Tensor, "batch n 1"]:
        u = torch.linalg.solve_triangular(factor.mH, v, upper=True)
        return torch.linalg.solve_triangular(factor, D(u), upper=False)

    theta, rho = least_eigenvalues(congruent, begin, tolerance=tolerance)
    least = float((theta - rho).min())
    return -1 / least if least < 0 else math.inf


def fraction(predicted: float) -> float:
    """How much of the way to the boundary to go: the further the predictor came, the more (Mehrotra)."""
    return 0.9 + 0.09 * predicted


def centering(ratio: float, predicted: float) -> float:
    r"""$\sigma$ from the ratio of $\mu$ after and before the predictor, and the predictor's step length (SDPT3)."""
    return min(1.0, max(1e-6, max(ratio, 0.0) ** max(1.0, 3 * predicted**2)))


def shorten(factor: Callable[[float], Matrices | None], a: float) -> tuple[float, Matrices | None]:
    """The step length `a`, reduced until `factor(a)` exists, with that factor; None if no step is left."""
    L = factor(a)
    while L is None and a > 1e-6:
        a *= 0.8
        L = factor(a)
    return a, L


def cholesky(M: Matrices) -> Matrices | None:
    """Cholesky factors of a batch, or None if one of them is not positive definite."""
    L, info = torch.linalg.cholesky_ex(M)
    return None if bool(info.any()) else L


def newton_solver(
    H: Float[Tensor, "n n"],
) -> Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]] | None:
    """Solves with H, made to have a unit diagonal before it is factored; None if it is numerically singular."""
    e = H.diagonal().rsqrt()
    factor = cholesky(e[:, None] * H * e)
    if factor is None:
        return None
    return lambda rhs: e * torch.cholesky_solve((e * rhs)[:, None], factor)[:, 0]


def random_vectors(like: Matrices) -> Inexact[Tensor, "batch n 1"]:
    """Fixed vectors to begin Lanczos iterations with."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(*like.shape[:-1], 1, dtype=torch.float64, generator=generator)
    return v.to(device=like.device, dtype=like.dtype)


def least_eigenvalues(
    apply: Operator, begin: Inexact[Tensor, "batch n 1"], *, tolerance: float, steps: int = 60
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    r"""Ritz values $\theta$ near the least eigenvalue of every Hermitian operator of a batch, and residual norms $\rho$.

    Lanczos iteration until $\min(\theta - \rho)$ is within `tolerance` of $\min \theta$, relatively, or for `steps`. Some
    eigenvalue lies within $\rho$ of $\theta$ and the least is not above $\theta$; that it is that one is likely, not proven.
    """
    return least_eigenpairs(apply, begin, tolerance=tolerance, steps=steps)[:2]


def least_eigenpairs(
    apply: Operator,
    begin: Inexact[Tensor, "batch n 1"],
    *,
    tolerance: float,
    steps: int = 60,
    clear: float = math.inf,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], Inexact[Tensor, "batch n"]]:
    """`least_eigenvalues` with Ritz vectors of length 1; it ends early where all are likely above `clear`."""
    steps = min(steps, begin.shape[-2])
    V = begin / _norm(begin)
    diagonal, side = [], []
    while True:
        v = V[..., -1:]
        w = apply(v)
        diagonal.append((v.conj() * w).real.sum(-2))
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            w = w - V @ (V.mH @ w)
        size = _norm(w)
        side.append(size[..., 0])
        k = len(side)
        if k % 4 == 0 or k == steps:
            theta, rho, S = _ritz(torch.cat(diagonal, -1), torch.cat(side, -1))
            least = float(theta.min())
            below = float((theta - rho).min())
            if k == steps or least - below <= tolerance * abs(least) or below >= clear:
                return theta, rho, (V @ S[..., None].to(V.dtype))[..., 0]
        V = torch.cat([V, w / (size + (size == 0))], -1)


def _ritz(
    diagonal: Float[Tensor, "batch k"], side: Float[Tensor, "batch k"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], Float[Tensor, "batch k"]]:
    """Least eigenvalue of the tridiagonal matrix, its residual norm, and its eigenvector."""
    off = torch.diag_embed(side[..., :-1], 1)
    theta, S = torch.linalg.eigh(torch.diag_embed(diagonal) + off + off.mT)
    return theta[..., 0], side[..., -1] * abs(S[..., -1, 0]), S[..., 0]


def _norm(v: Inexact[Tensor, "batch n 1"]) -> Float[Tensor, "batch 1 1"]:
    return torch.linalg.vector_norm(v, dim=-2, keepdim=True)

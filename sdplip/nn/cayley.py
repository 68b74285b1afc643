r"""The Cayley transform of any matrix with at least as many rows as columns: a matrix with orthonormal columns."""

import torch
from jaxtyping import Inexact
from torch import Tensor


def cayley(W: Inexact[Tensor, "*batch rows n"]) -> Inexact[Tensor, "*batch rows n"]:
    r"""$Q$ with $Q^* Q = I$ from any $W = \binom{U}{V}$, real or complex, `rows >= n`.

    $Z = U - U^* + V^* V$ and $Q = \binom{(I - Z)(I + Z)^{-1}}{-2 V (I + Z)^{-1}}$. The Hermitian part of $Z$ is $V^* V
    \succeq 0$, so $I + Z$ is always invertible, and $(I + Z)^* (I + Z) - (I - Z)^* (I - Z) = 4 V^* V$ (Trockman and Kolter,
    ICLR 2021).
    """
    n = W.shape[-1]
    U, V = W[..., :n, :], W[..., n:, :]
    Z = U - U.mH + V.mH @ V
    I = torch.eye(n, dtype=W.dtype, device=W.device)  # noqa: E741
    right = torch.cat([I - Z, -2 * V], -2)
    Q = torch.linalg.solve_ex(
        I + Z, right, left=False
    ).result  # never singular, so nothing waits for a GPU to say so
    return 1.5 * Q - 0.5 * Q @ (Q.mH @ Q)  # Q in exact arithmetic; squares the rounding error of the solve

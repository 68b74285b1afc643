r"""The Cayley transform of any matrix with at least as many rows as columns: a matrix with orthonormal columns."""

import torch
from jaxtyping import Inexact
from torch import Tensor


def cayley(W: Inexact[Tensor, "*batch rows n"], *, polish: bool = True) -> Inexact[Tensor, "*batch rows n"]:
    r"""$Q$ with $Q^* Q = I$ from any $W = \binom{U}{V}$, real or complex, `rows >= n`.

    $Z = U - U^* + V^* V$ and $Q = \binom{(I - Z)(I + Z)^{-1}}{-2 V (I + Z)^{-1}}$. The Hermitian part of $Z$ is $V^* V
    \succeq 0$, so $I + Z$ is always invertible, and $(I + Z)^* (I + Z) - (I - Z)^* (I - Z) = 4 V^* V$ (Trockman and Kolter,
    ICLR 2021). With $M = (I + Z)^{-1}$ the upper block is $2 M - I$: one inverse makes both.
    """
    n = W.shape[-1]
    I = torch.eye(n, dtype=W.dtype, device=W.device)  # noqa: E741
    if W.shape[-2] == n:  # compilers stumble over the gradient of an empty complex V
        M = torch.linalg.inv_ex(I + W - W.mH).inverse  # never singular, so nothing waits for a GPU to say so
        Q = 2 * M - I
    else:
        U, V = W[..., :n, :], W[..., n:, :]
        M = torch.linalg.inv_ex(I + U - U.mH + V.mH @ V).inverse
        Q = torch.cat([2 * M - I, -2 * V @ M], -2)
    return Q + _rest(Q.detach()) if polish else Q


def _rest(Q: Inexact[Tensor, "*batch rows n"]) -> Inexact[Tensor, "*batch rows n"]:
    r"""$(Q - Q Q^* Q) / 2$, which is 0 in exact arithmetic: added, it squares the rounding error of the inverse. On matrices with orthonormal
    columns the derivative of the sum is that of $Q$ alone, so nothing is differentiated here."""
    return 0.5 * (Q - Q @ (Q.mH @ Q))

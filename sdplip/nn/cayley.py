r"""The Cayley transform of any matrix with at least as many rows as columns: a matrix with orthonormal columns."""

from typing import Any

import torch
from jaxtyping import Inexact
from torch import Tensor

Matrix = Inexact[Tensor, "*batch rows n"]


def cayley(W: Matrix, *, polish: bool = True) -> Matrix:
    r"""$Q$ with $Q^* Q = I$ from any $W = \binom{U}{V}$, real or complex, `rows >= n`.

    $Z = U - U^* + V^* V$ and $Q = \binom{(I - Z)(I + Z)^{-1}}{-2 V (I + Z)^{-1}}$. The Hermitian part of $Z$ is $V^* V
    \succeq 0$, so $I + Z$ is always invertible, and $(I + Z)^* (I + Z) - (I - Z)^* (I - Z) = 4 V^* V$ (Trockman and Kolter,
    ICLR 2021). With $M = (I + Z)^{-1}$ the upper block is $2 M - I$: one inverse makes both, and the gradient of both.
    """
    # compilers differentiate the products themselves
    Q: Tensor = _Cayley.forward(W) if torch.compiler.is_compiling() else _Cayley.apply(W)  # type: ignore[assignment]
    return Q + _rest(Q.detach()) if polish else Q


class _Cayley(torch.autograd.Function):
    r"""Backward by products with $2 M = I + Q_1$, which stands in the result; they can be differentiated again.

    With the gradient $G = \binom{G_1}{G_2}$ of $Q$ and $P = 2 G M^*$: $dZ = M^* (V^* P_2 - P_1)$, $dU = dZ - dZ^*$ and
    $dV = V (dZ + dZ^*) - P_2$.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(W: Tensor) -> Tensor:
        I = torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)  # noqa: E741
        U, V = _blocks(W)
        Z = U - U.mH if V is None else U - U.mH + V.mH @ V
        M = torch.linalg.inv_ex(I + Z).inverse  # never singular, so nothing waits for a GPU to say so
        return 2 * M - I if V is None else torch.cat([2 * M - I, V @ (-2 * M)], -2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        W, Q = ctx.saved_tensors
        (_, V), (top, _) = _blocks(W), _blocks(Q)
        twice = top + torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)
        P1, P2 = _blocks(gradients[0] @ twice.mH)
        if V is None or P2 is None:
            Z = -0.5 * (twice.mH @ P1)
            return Z - Z.mH
        Z = 0.5 * (twice.mH @ (V.mH @ P2 - P1))
        return torch.cat([Z - Z.mH, V @ (Z + Z.mH) - P2], -2)


def _blocks(W: Matrix) -> tuple[Tensor, Tensor | None]:
    """The square block and what stands below it; None where that is empty, over which compilers stumble."""
    n = W.shape[-1]
    return (W, None) if W.shape[-2] == n else (W[..., :n, :], W[..., n:, :])


def _rest(Q: Matrix) -> Matrix:
    r"""$(Q - Q Q^* Q) / 2$, which is 0 in exact arithmetic: added, it squares the rounding error of the inverse. On matrices with orthonormal
    columns the derivative of the sum is that of $Q$ alone, so nothing is differentiated here."""
    return 0.5 * (Q - Q @ (Q.mH @ Q))

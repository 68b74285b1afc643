r"""Solving $z = \sigma(W z + c)$ for a batch: Peaceman-Rachford splitting, then Newton steps, and the gradient by the implicit function theorem."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ROUNDS, STEPS, POLISH = 40, 25, 10
"""So many times as many steps of Peaceman-Rachford, and Newton steps behind each of them."""

Batch = Float[Tensor, "batch units"]
Matrix = Float[Tensor, "units units"]


Check = Callable[[Matrix, Batch, Batch, Batch], None]
"""Called with W, x, c and z; it raises where z will not do."""


class Solution(torch.autograd.Function):
    r"""$z$ as a function of $W$ and $c$; `x`, from which c was made, is for `check` alone.

    With D the slopes of $\sigma$ at $W z + c$, $dz = (I - D W)^{-1} D (dW z + dc)$. $I - D W$ is invertible for all slopes in [0, 1] where
    the equilibrium is proven to exist: for $v = D W v$ the sectors give $v^\top M v \le 0$. So the gradient of a loss with $\partial z = g$
    is $q = D (I - W^\top D)^{-1} g$ for c, and $q z^\top$ for W. No iteration is differentiated, and there is no second derivative.
    """

    @staticmethod
    def forward(W: Matrix, c: Batch, x: Batch, activation: nn.Module, check: Check | None) -> Batch:
        z = solved(W, c, activation)
        if check is not None:
            check(W, x, c, z)
        return z

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        W, c, _, activation, _ = inputs
        ctx.save_for_backward(W, output, slope(activation, output @ W.mT + c))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (g,), (W, z, D) = gradients, ctx.saved_tensors
        eye = torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)
        q = D * torch.linalg.solve(eye - W.mT * D[..., None, :], g[..., None])[..., 0]
        return q.mT @ z, q, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *given: Any) -> tuple[Tensor, int]:
        """One large batch; W by W, where there are several."""
        W, c, x, activation, check = given
        several = in_dims[0] is not None
        c, x = (A.unsqueeze(0).expand(info.batch_size, *A.shape) if d is None else A.movedim(d, 0)
                for A, d in zip((c, x), in_dims[1:3], strict=True))  # fmt: skip
        if several:
            each = zip(W.movedim(in_dims[0], 0), c, x, strict=True)
            return torch.stack([Solution.apply(V, b, y, activation, check) for V, b, y in each]), 0  # type: ignore[arg-type]
        z = Solution.apply(W, c.reshape(-1, c.shape[-1]), x.reshape(-1, x.shape[-1]), activation, check)
        return z.reshape(c.shape), 0  # type: ignore[union-attr]


def solved(W: Matrix, c: Batch, activation: nn.Module) -> Batch:
    """The best that is found: whoever needs a solution looks at its residual.

    ReLU is its own proximal map with any positive factor a coordinate, so there $I - W$ is scaled to a diagonal of 1 first. Other
    functions are their own proximal maps with the factor 1 alone.
    """
    eye = torch.eye(len(W), dtype=W.dtype, device=W.device)
    A, shift = eye - W, c
    if isinstance(activation, nn.ReLU):
        p = 1 / A.diagonal().clamp(min=torch.finfo(W.dtype).tiny)
        A, shift = p[:, None] * A, c * p
    V = torch.linalg.inv(eye + A).mT
    u = z = best = torch.zeros_like(c)
    least, enough = torch.full_like(c[:, 0], torch.inf), 30 * torch.finfo(W.dtype).eps
    for _ in range(ROUNDS):
        for _ in range(STEPS):
            back = 2 * z - u
            ahead = (back + shift) @ V
            u = 2 * ahead - back
            z = activation(u)
        near = activation(_polished(W, z, c, activation) @ W.mT + c)
        residual = (near - activation(near @ W.mT + c)).abs().amax(-1).nan_to_num(torch.inf)
        best, before = torch.where((residual < least)[:, None], near, best), least
        least = torch.minimum(least, residual)
        open_ = least > enough * _size(W, near, c)
        if not bool((open_ & (least < 0.5 * before)).any()):  # all are there, or nothing comes nearer
            break
    return best


def slope(activation: nn.Module, y: Tensor) -> Tensor:
    """Of ReLU, LeakyReLU, tanh or the logistic function."""
    if isinstance(activation, nn.Tanh):
        return 1 - torch.tanh(y).square()
    if isinstance(activation, nn.Sigmoid):
        return torch.sigmoid(y) * torch.sigmoid(-y)
    on = (y > 0).to(y.dtype)
    return on + (1 - on) * activation.negative_slope if isinstance(activation, nn.LeakyReLU) else on


def _polished(W: Matrix, z: Batch, c: Batch, activation: nn.Module) -> Batch:
    """Newton steps until they stand still."""
    eye = torch.eye(len(W), dtype=W.dtype, device=W.device)
    for _ in range(POLISH):
        y = z @ W.mT + c
        residual = z - activation(y)
        if bool((residual.abs().amax(-1) <= 8 * torch.finfo(W.dtype).eps * _size(W, z, c)).all()):
            break
        D = slope(activation, y)
        step, failed = torch.linalg.solve_ex(eye - D[:, :, None] * W, residual)
        z = torch.where((failed == 0)[:, None] & step.isfinite(), z - step, z)
    return z


def _size(W: Matrix, z: Batch, c: Batch) -> Float[Tensor, " batch"]:
    """Of the sums in the equation, relative to which they round."""
    return (z.abs() @ W.abs().mT + c.abs()).amax(-1)

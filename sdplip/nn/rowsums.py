r"""Scalings of a large matrix in training: half of a Gram matrix, and one product for the whole gradient of SLL."""

from typing import Any

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from sdplip import scalings

BLOCK = 256
"""Columns of one block on a CPU, where half of the products are saved; elsewhere one block has them all, and few kernels. Matrices
with fewer columns are left to the plain formula."""


def gershgorin(
    W: Float[Tensor, "*layers m n"],
    q: Float[Tensor, "*layers n"] | None,
    *,
    gradient_dtype: torch.dtype | None = None,
    product_dtype: torch.dtype | None = None,
    block: int = BLOCK,
) -> Float[Tensor, "*layers n"]:
    r"""`scalings.gershgorin(W, q)`, or `scalings.aol(W)` if `q` is None, with the same gradients at half the cost.

    Note [cost]. With $s = \operatorname{sign} G$ the gradient of $r_i = \sum_j |G_{ij}| q_j$ against $g$ is $W M$ with the
    symmetric matrix $M_{ij} = s_{ij} (g_i q_j + q_i g_j)$: one product instead of the two that differentiate $W^\top W$,
    after a forward pass that computes one triangle of $G$. Of the $n^2$ numbers only the signs are kept, a byte each. The
    gradient of $q$ is free: $w_j \cdot (W M)_j = q_j\,\partial_{q_j} + g_j r_j$. `gradient_dtype` rounds the factors of that
    one product; the value of $t$ never is. `product_dtype` rounds the factors of $W^\top W$ as well: $t$ is then near the
    scaling, on either side of it. Its whole Gram matrix is formed, since a triangle saves nothing on units for matrices.
    """
    if W.shape[-1] <= block or torch.compiler.is_compiling():
        return scalings.aol(W) if q is None else scalings.gershgorin(W, q)
    weights = W.new_ones(()).expand(*W.shape[:-2], W.shape[-1]) if q is None else q
    rounded = product_dtype or W.dtype
    if W.device.type != "cpu":
        block = W.shape[-1]
    rows = _RowSums.apply(W.mT, weights, gradient_dtype or rounded, rounded, block)[0]
    return rows if q is None else rows / q


class _RowSums(torch.autograd.Function):
    r"""$r_i = \sum_j |v_i \cdot v_j| q_j$ of the rows of $V = W^\top$, and the signs of all $v_i \cdot v_j$."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        V: Float[Tensor, "*layers n m"],
        q: Float[Tensor, "*layers n"],
        gradient_dtype: torch.dtype,  # noqa: ARG004
        product_dtype: torch.dtype,
        block: int,
    ) -> tuple[Float[Tensor, "*layers n"], Int8[Tensor, "*layers n n"]]:
        if product_dtype != V.dtype:
            return _rounded_rows(V.to(product_dtype), q, block)
        starts = range(0, V.shape[-2], block)
        rows: list[Tensor] = [V.new_zeros(())] * len(starts)
        signs: list[list[Tensor]] = [[] for _ in starts]
        for a, start in enumerate(starts):
            G = V[..., start : start + block, :] @ V[..., start:, :].mT
            own = min(block, V.shape[-2] - start)
            signs[a].append(G.sign().to(torch.int8))
            for b in range(a + 1, len(starts)):
                at = (b - a) * block
                signs[b].append(signs[a][-1][..., at : at + block].mT)
            G = G.abs()
            rows[a] = rows[a] + _times(G, q[..., start:])
            for b in range(a + 1, len(starts)):
                at = (b - a) * block
                rows[b] = rows[b] + _times(G[..., at : at + block].mT, q[..., start : start + own])
        return torch.cat(rows, -1), torch.cat([torch.cat(line, -1) for line in signs], -2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.save_for_backward(*inputs[:2], *output)
        ctx.gradient_dtype, _, ctx.block = inputs[2:]
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, g: Tensor | None, _: Any
    ) -> tuple[Tensor | None, ...]:
        if g is None:
            return None, None, None, None, None
        V, q, rows, signs = ctx.saved_tensors
        parts, V_rounded = [], V.to(ctx.gradient_dtype)
        for start in range(0, V.shape[-2], ctx.block):
            here = slice(start, start + ctx.block)
            M = torch.addcmul(g[..., here, None] * q[..., None, :], q[..., here, None], g[..., None, :])
            parts.append((M * signs[..., here, :].to(M.dtype)).to(ctx.gradient_dtype) @ V_rounded)
        gradient = torch.cat(parts, -2).to(V.dtype)
        dq = (torch.linalg.vecdot(V, gradient) - g * rows) / q if ctx.needs_input_grad[1] else None
        return gradient, dq, None, None, None


def _times(G: Float[Tensor, "*layers n k"], q: Float[Tensor, "*layers k"]) -> Float[Tensor, "*layers n"]:
    return (G @ q[..., None])[..., 0]


def _rounded_rows(
    V: Float[Tensor, "*layers n m"], q: Float[Tensor, "*layers n"], block: int
) -> tuple[Float[Tensor, "*layers n"], Int8[Tensor, "*layers n n"]]:
    """Row sums and signs of a Gram matrix whose factors are rounded; the sums themselves run in the dtype of `q`."""
    rows, signs = [], []
    for start in range(0, V.shape[-2], block):
        G = V[..., start : start + block, :] @ V.mT
        signs.append(G.sign().to(torch.int8))
        rows.append(_times(G.to(q.dtype).abs(), q))
    return torch.cat(rows, -1), torch.cat(signs, -2)


def half_gram(W: Float[Tensor, "*layers m n"], block: int = 2 * BLOCK) -> Float[Tensor, "*layers n n"]:
    r"""$W^\top W$; of a wide matrix on a CPU one triangle is multiplied, and the other is its mirror image."""
    n = W.shape[-1]
    if n <= block or W.device.type != "cpu" or torch.compiler.is_compiling():
        return W.mT @ W
    starts = range(0, n, block)
    upper = [W[..., start : start + block].mT @ W[..., start:] for start in starts]
    rows = []
    for a, start in enumerate(starts):
        left = [upper[b][..., start - s : start - s + block].mT for b, s in enumerate(starts[:a])]
        rows.append(torch.cat([*left, upper[a]], -1))
    return torch.cat(rows, -2)

r"""The condition of the field: a diagonal $T$ with $W^\top W \preceq T$.

One text for NumPy and torch: only operators and methods that both spell alike, so every function is batched over leading
axes and, on torch tensors, differentiable. Nothing here is rounded outward: the proof is `sdplip.certify`.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float

Array = Any
"""A NumPy array or a torch tensor; what comes in goes out."""


def gram(W: Float[Array, "*batch m n"]) -> Float[Array, "*batch n n"]:
    r"""Gram matrix $G = W^\top W$, the left side of the condition."""
    return W.mT @ W


def inverse_scaling(t: Float[Array, "*batch n"], power: float = 1.0) -> Float[Array, "*batch n"]:
    r"""Diagonal of $T^{-p}$, with 0 where `t == 0`.

    The condition allows `t[i] == 0` only for a zero column of $W$; such a unit contributes nothing. The zero is masked *before*
    the inversion, so its gradient is 0 instead of NaN.
    """
    return (t + (t == 0)) ** -power * (t != 0)


def rescale(W: Float[Array, "*batch m n"], t: Float[Array, "*batch n"]) -> Float[Array, "*batch m n"]:
    r"""Rescaled matrix $P = W T^{-1/2}$; $x \mapsto P x + b$ is 1-Lipschitz if $W^\top W \preceq T$ (SLL, Theorem 1.1)."""
    return W * inverse_scaling(t, 0.5)[..., None, :]


def residual(
    x: Float[Array, "*batch m"],
    W: Float[Array, "m n"],
    t: Float[Array, " n"],
    b: Float[Array, " n"] | float = 0.0,
    *,
    activation: Callable[[Array], Array],
) -> Float[Array, "*batch m"]:
    r"""Residual layer $x - 2 W T^{-1} \sigma(W^\top x + b)$, 1-Lipschitz if $W^\top W \preceq T$ (SLL, Theorem 1.2).

    `activation` acts elementwise with slopes in $[0, 1]$ (ReLU, tanh, sigmoid, softplus; not GELU, not MaxMin).
    """
    return x - 2 * (activation(x @ W + b) * inverse_scaling(t)) @ W.mT


def normalised(M: Float[Array, "*batch m n"]) -> tuple[Float[Array, "*batch m n"], Float[Array, "*batch"]]:
    """`M` divided by its Frobenius norm, and that norm (1 for the zero matrix, so that one may divide by it)."""
    norm = (M * M).sum((-2, -1))
    norm = (norm + (norm == 0)) ** 0.5
    return M / norm[..., None, None], norm


def perron_vector(S: Float[Array, "*batch n n"], iterations: int = 10) -> Float[Array, "*batch n"]:
    r"""Approximate Perron vector of a symmetric nonnegative matrix, positive, mean 1: $S^{2^k - 1} 1$ by repeated squaring."""
    M = normalised(S)[0]
    q = S[..., 0] * 0 + 1
    for _ in range(iterations):
        q = (M @ q[..., None])[..., 0]
        total = q.sum(-1)[..., None]
        q = q / (total + (total == 0)) * q.shape[-1]
        M = normalised(M @ M)[0]
    return q + 1e-6  # a floor keeps q_j / q_i within what double precision carries

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

r"""The constant of softmax attention on a ball: a product of bounded factors, which has none on the whole space."""

from math import inf, sqrt

import numpy as np
from torch import nn

from sdplip.arithmetic.elementary import EXP, decay
from sdplip.arithmetic.rounding import GENEROUS, TINY, down, gamma, up
from sdplip.errors import InvalidProblem
from sdplip.nn.bounds.dispatch import Context
from sdplip.nn.bounds.tree import Bound, product_above, quotient_above, root_above, shown, sum_above
from sdplip.nn.bounds.weights import effective, matrix_bound
from sdplip.nn.given import count, number
from sdplip.shapes import Float

# Note [attention]. A head maps X (n tokens) to P(X) X M' with M = W_o W_v, and P = softmax of the rows of S(X) = (X A X' + 1 u' X') /
# sqrt d, A = W_q' W_k, u = W_k' b_q: the other terms of the scores are equal along each row, which softmax does not see, and so is
# what b_v adds, since rows of P sum to 1. For X, Y with Frobenius norms of at most R,
#     P(X) X - P(Y) Y = (P(X) - P(Y)) X + P(Y) (X - Y),   |P(X) X - P(Y) Y| <= (c R |dS| + |P(Y)|_2 |dX|),
# |dS| <= (2 R |A| + sqrt n |u|) |dX| / sqrt d, with the constant c of softmax on these scores. Those of a row lie within rho = 2 (R^2
# |A| + R |u|) / sqrt d of each other, on the way from S(X) to S(Y) too, so a share is at most p = 1 / (1 + (n - 1) e^-rho). Softmax has
# the Jacobian diag(p) - p p', of norm at most 1/2 and at most its largest share; columns of P sum to n p at most and rows to 1, so
# |P|_2 <= sqrt(n p). With one token P = 1. A fixed mask that is added to the scores leaves softmax 1/2-Lipschitz, but not rho: then p = 1.


def attention_on_ball(
    attention: nn.MultiheadAttention, tokens: int, radius: float, *, masked: bool = False
) -> Bound:
    r"""A proven constant of self-attention $X \mapsto \mathrm{attention}(X, X, X)$ between any two samples of Frobenius norm at most
    `radius`: the sum over heads of $\lVert M \rVert \bigl(\sqrt{n p} + \min(\tfrac12, p) R\, (2 R \lVert A \rVert + \sqrt n \lVert u \rVert)
    / \sqrt d\bigr)$, see Note [attention] in the source.

    On the whole space attention has no constant, so `lipschitz` refuses it. Behind `nn.LayerNorm` of $d$ features with weight $w$ and bias
    $b$ every sample of $n$ tokens has the norm $\sqrt{n d} \max |w| + \sqrt n \lVert b \rVert$ at most: with that radius, the product with the
    constant of the normalisation holds everywhere.

    Args:
        attention: in eval mode, query, key and value of one width; `batch_first` as you like.
        tokens: of every sample.
        radius: of the ball around 0, of a whole sample `(tokens, features)`.
        masked: whether an attention mask is passed to it, fixed numbers or minus infinity, that leaves every token one to look at.

    Returns:
        the bound, with the proofs about the weights.

    Raises:
        InvalidProblem: no self-attention of one width, or numbers out of their ranges.
        RefusedModule: dropout in training mode, hooks, weights that are not finite.
    """
    n, radius = count("tokens", tokens), number("radius", radius)
    if type(attention) is not nn.MultiheadAttention or attention.in_proj_weight is None:
        raise InvalidProblem(
            "`attention` must be an `nn.MultiheadAttention` whose queries, keys and values have one width."
        )
    if not 0 <= radius < inf:
        raise InvalidProblem(f"`radius` must be a number of at least 0, but is {radius}.")
    where = Context()
    if attention.bias_k is not None or attention.add_zero_attn:
        raise where.refuse(
            attention, "`add_bias_kv` and `add_zero_attn` add tokens of their own. Leave them out."
        )
    if attention.training and attention.dropout:
        raise where.refuse(attention, "in training mode it drops entries at random. Call `.eval()` first.")
    where.require(attention)
    heads = tuple(_head(attention, head, n, radius, masked, where) for head in range(attention.num_heads))
    reason = f"sum over heads, between samples of {n} tokens of norm at most {shown(radius)}"
    return Bound(
        sum_above(tuple(head.value for head in heads)), reason, name="MultiheadAttention", parts=heads
    )


def _head(
    attention: nn.MultiheadAttention, head: int, n: int, radius: float, masked: bool, where: Context
) -> Bound:
    """The bound of one head."""
    width = attention.head_dim
    rows = slice(head * width, (head + 1) * width)
    W_q, W_k, W_v = (W[rows] for W in np.split(effective(attention, "in_proj_weight", where), 3))
    W_o = effective(attention.out_proj, "weight", where)[:, rows]
    A, M = _product(W_q.T, W_k, "W_q' W_k"), _product(W_o, W_v, "W_o W_v")
    u = 0.0
    if attention.in_proj_bias is not None:
        b_q = np.split(effective(attention, "in_proj_bias", where), 3)[0][rows]
        u = _product(W_k.T, b_q[:, None], "W_k' b_q").value
    root = down(sqrt(width))
    spread = 2 * quotient_above(
        sum_above((product_above((radius, radius, A.value)), product_above((radius, u)))), root
    )
    share = 1.0 if masked else _largest_share(n, spread)
    scores = quotient_above(
        sum_above((product_above((2.0, radius, A.value)), product_above((root_above(float(n)), u)))), root
    )
    turns = product_above((min(0.5, share), radius, scores)) if n > 1 else 0.0
    mixes = root_above(product_above((float(n), share))) if n > 1 else 1.0
    return Bound(
        product_above((M.value, sum_above((mixes, turns)))),
        f"shares of at most {shown(share)}; values mix by {shown(mixes)}, shares turn by {shown(turns)}",
        name=f"head {head}",
        parts=(A, M),
    )


def _largest_share(n: int, spread: float) -> float:
    r"""$1 / (1 + (n - 1) e^{-\rho})$, rounded up."""
    (found,) = decay(np.array([spread])).tolist()
    least = found * (1 - EXP * 2) if found > 2.0**-900 else 0.0
    return min(1.0, quotient_above(1.0, down(1 + down((n - 1) * least))))


def _product(X: Float[np.ndarray, "m k"], Y: Float[np.ndarray, "k n"], what: str) -> Bound:
    """Proven norm of the exact product of two matrices, which double precision rounds."""
    k = X.shape[1]
    P, size = X @ Y, abs(X) @ abs(Y)
    lost = float(np.sqrt((size * size).sum())) * GENEROUS * gamma(k + 4) + (k + 4) * P.size * TINY
    found = matrix_bound(P, what)
    return Bound(up(found.value + lost), found.reason, certificate=found.certificate)

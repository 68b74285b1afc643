r"""Certificates of embeddings: retrieval, two-alternative choice, verification. How far may a query move before the answer changes?

    >>> e = embed(model, images)                                      # embeddings, their constant and their rounding
    >>> anchored_radius(e.values, anchors, labels, e.constant, error=e.error)   # the nearest anchor keeps its label
    >>> half_space_radius(e.values, a, b, e.constant, error=e.error)  # x is nearer to a than to b
    >>> angle_radius(e.values, others, 0.6, e.constant, error=e.error)          # a pair counts as the same: cosine above 0.6

The query is attacked, anchors are fixed numbers. Embeddings need not be normalised, and should not be: of an embedding f with constant
L each answer changes on a plane or a cone, and the distance of f to it, over L, is the radius.
"""

# Note [planes and cones]. Nearer to a than to b means <f', u> > 0 for
#     cosine   f' = f,        u = a / |a| - b / |b|                        (the query need not be normalised: its length is positive)
#     euclid   f' = (f, 1),   u = (a, -|a|^2 / 2) - (b, -|b|^2 / 2)        |f - b|^2 - |f - a|^2 = 2 <f', u>
#     lipsim   f' = (f, 1),   u = (a, 1) / |(a, 1)| - (b, 1) / |(b, 1)|    the metric of Ghazanfari et al. 2024 (LipSim)
# which is affine in f with a slope as long as the first entries of u, v: <f', u> / |v| is the signed distance of f to a plane. An angle
# t between f and a means sin t p - cos t q = |f| sin(t - angle) for p = <f, a> / |a| and q = |f - p a / |a||: the signed distance of f
# to a cone as long as |t - angle| <= pi / 2; beyond, its tip is nearest, at |f|. Signed distances are 1-Lipschitz, so those of f(x) are
# L-Lipschitz. LipSim's own radius <h(x), u> / |u| with the query normalised, h(x) = f' / |f'|, is smaller by the factor |f'| at least.
# Rounding in double precision: with anchors off by gamma in relative terms, sums of d + 1 products are off by less than 8 gamma(d + 9)
# |f'| max |a'|, distances of anchors by 8 gamma(d + 9) max |a'|.

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist
from torch import Tensor

from sdplip.arithmetic.rounding import GENEROUS, gamma
from sdplip.errors import InvalidProblem
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.given import count, floats, number
from sdplip.robustness.forward_error import REACH
from sdplip.shapes import array, said, short

Metric = Literal["cosine", "euclid", "lipsim"]
Embeddings = Float[np.ndarray, "n features"] | Float[Tensor, "n features"]
FLOOR, LARGEST = 1e-100, 1e100
"""What underflow may take from a sum of products; entries up to which nothing overflows."""
ENTRIES = 2**22
"""Margins of queries, witnesses and wrong anchors at a time."""


@dataclass(frozen=True, eq=False)
class Anchored:
    """The nearest anchors of some queries.

    Attributes:
        nearest: `(n,)`, number of the nearest anchor.
        label: its label.
        radius: at every query strictly nearer than this the nearest anchor has that label.
    """

    nearest: Int[np.ndarray, " n"]
    label: Int[np.ndarray, " n"]
    radius: Float[np.ndarray, " n"]

    __repr__ = short


def half_space_radius(
    queries: Embeddings,
    a: Embeddings,
    b: Embeddings,
    constant: float | Bound,
    *,
    metric: Metric = "cosine",
    error: Float[np.ndarray, " n"] | float = 0.0,
) -> Float[np.ndarray, " n"]:
    r"""Signed radius of "the query is nearer to a than to b": positive where it is, negative where b is nearer, 0 where nothing is
    proven. At every input strictly nearer than its absolute value the answer is the same.

    In exact arithmetic 1-Lipschitz in the input; rounded towards 0.

    Args:
        queries, a, b: `(n, features)`, row by row.
        constant: of the embedding, `lipschitz(model)`.
        metric: "cosine", "euclid", or "lipsim", the cosine of (f, 1).
        error: how far queries may be from exact ones, as a length (`embed`).

    Raises:
        InvalidProblem: shapes that do not fit, numbers that are not finite, an anchor of length 0 for the cosine.
    """
    f, left, right = _matrix("queries", queries), _matrix("a", a), _matrix("b", b)
    if not f.shape == left.shape == right.shape:
        raise InvalidProblem(
            f"`queries`, `a`, `b` must have one shape, but have {f.shape}, {left.shape}, {right.shape}."
        )
    d = f.shape[1]
    F, A, B = _query(f, metric), _anchors(left, metric), _anchors(right, metric)
    apart = np.linalg.norm(A[:, :d] - B[:, :d], axis=1)
    top = (F * (A - B)).sum(1)
    size = np.maximum(_lengths(A), _lengths(B))
    return _signed(top, apart, _lost(F, size, d), size, constant, _error(error, len(f)), d)


def anchored_radius(
    queries: Embeddings,
    anchors: Embeddings,
    labels: Int[np.ndarray, " m"] | Int[Tensor, " m"],
    constant: float | Bound,
    *,
    metric: Metric = "cosine",
    error: Float[np.ndarray, " n"] | float = 0.0,
    witnesses: int = 10,
) -> Anchored:
    r"""How far each query may move while its nearest anchor keeps the label: $\max_a \min_b$ of `half_space_radius` over anchors a of
    that label and b of the others.

    Args:
        queries: `(n, features)`.
        anchors: `(m, features)`, with one label each.
        constant, metric, error: as for `half_space_radius`.
        witnesses: that many nearest anchors of the label are tried as a; fewer are faster, and still proven.

    Raises:
        InvalidProblem: as `half_space_radius`; labels that are not whole numbers, or only one of them.
    """
    f, g, y = _matrix("queries", queries), _matrix("anchors", anchors), _labels(labels)
    if f.shape[1] != g.shape[1] or y.shape != (len(g),) or y.dtype.kind not in "iu":
        raise InvalidProblem(
            f"`queries` {f.shape}, `anchors` {g.shape} and `labels` {y.shape} do not fit together. Pass (n, features),"
            " (m, features) and m whole numbers."
        )
    if len(np.unique(y)) < 2:
        raise InvalidProblem(
            "All anchors have one label, which no query can lose. Pass anchors of two labels at least."
        )
    d, witnesses = f.shape[1], count("witnesses", witnesses)
    F, G = _query(f, metric), _anchors(g, metric)
    near = F @ G.T
    nearest = near.argmax(1)
    size = np.full(len(f), _lengths(G).max())
    lost, best = _lost(F, size, d), np.zeros(len(f))
    e = np.broadcast_to(_error(error, len(f)), (len(f),))
    for label in np.unique(y[nearest]):
        mine, right, wrong = (
            np.flatnonzero(y[nearest] == label),
            np.flatnonzero(y == label),
            np.flatnonzero(y != label),
        )
        apart = cdist(G[right, :d], G[wrong, :d])
        tried = np.argsort(-near[np.ix_(mine, right)], 1, kind="stable")[:, :witnesses]
        for some in np.array_split(np.arange(len(mine)), -(-tried.size * len(wrong) // ENTRIES)):
            i, a = mine[some], tried[some]
            top = near[i[:, None], right[a]][..., None] - near[i][:, None, wrong]
            each = _signed(
                top, apart[a], lost[i, None, None], size[i, None, None], constant, e[i, None, None], d
            )
            best[i] = np.maximum(each.min(2).max(1), 0.0)
    return Anchored(nearest, y[nearest], np.minimum(best, REACH))


def angle_radius(
    queries: Embeddings,
    others: Embeddings,
    cosine: float,
    constant: float | Bound,
    *,
    error: Float[np.ndarray, " n"] | float = 0.0,
) -> Float[np.ndarray, " n"]:
    r"""Signed radius of "the pair is the same", the cosine of query and other being above a threshold: positive where it is, negative
    where it is not, 0 where nothing is proven. At every query strictly nearer than its absolute value the answer is the same.

    $\lVert f \rVert \sin(\min(|t - \angle|, \pi / 2)) / L$ with the angle t of the threshold. 1-Lipschitz in exact arithmetic; rounded
    towards 0.

    Args:
        queries, others: `(n, features)`, row by row; queries are attacked, others fixed.
        cosine: the threshold, between -1 and 1.
        constant, error: as for `half_space_radius`.

    Raises:
        InvalidProblem: shapes that do not fit, numbers that are not finite, others of length 0, a threshold outside of (-1, 1).
    """
    f, g = _matrix("queries", queries), _matrix("others", others)
    if f.shape != g.shape:
        raise InvalidProblem(f"`queries` and `others` must have one shape, but have {f.shape} and {g.shape}.")
    cosine = number("cosine", cosine)
    if not -1 < cosine < 1:
        raise InvalidProblem(f"`cosine` must lie between -1 and 1, but is {cosine}.")
    d, a, sine = f.shape[1], _anchors(g, "cosine"), ((1 - cosine) * (1 + cosine)) ** 0.5
    p = (f * a).sum(1)
    q = np.linalg.norm(f - p[:, None] * a, axis=1)
    size = np.ones(len(f))
    lost = _lost(f, size, d)
    length = np.linalg.norm(f, axis=1)
    across = sine * p - cosine * q
    beyond = cosine * p + sine * q < -lost  # the tip of the cone is nearest
    value = np.where(beyond, np.copysign(length, across), across)
    return _signed(value, np.ones(len(f)), lost, np.zeros(len(f)), constant, _error(error, len(f)), d)


def anchor_rows(
    anchors: Embeddings, metric: Metric
) -> tuple[Float[np.ndarray, "m features"], Float[np.ndarray, " m"] | None]:
    """Rows and biases of logits of which the largest is that of the nearest anchor; None where there is no bias."""
    a = _matrix("anchors", anchors)
    rows, d = _anchors(a, metric), a.shape[1]
    return np.ascontiguousarray(rows[:, :d]), rows[:, d] if metric != "cosine" else None


def _matrix(name: str, values: Embeddings) -> Float[np.ndarray, "n features"]:
    found = floats(name, values)
    if found.ndim != 2 or not found.size:
        raise InvalidProblem(f"`{name}` must have the shape (n, features), but has {found.shape}.")
    if not abs(found).max() <= LARGEST:
        raise InvalidProblem(f"`{name}` holds NaN, or numbers above {LARGEST:g}. Embeddings must be finite.")
    return found


def _labels(labels: Int[np.ndarray, " m"] | Int[Tensor, " m"]) -> np.ndarray:
    try:
        return array(labels)
    except (TypeError, ValueError, RuntimeError):
        raise InvalidProblem(f"`labels` must be whole numbers, but are {said(labels)}.") from None


def _error(error: Float[np.ndarray, " n"] | float, n: int) -> Float[np.ndarray, "..."]:
    e = floats("error", error)
    if e.shape not in ((), (n,)):
        raise InvalidProblem(
            f"`error` must be one number or {n} of them, one a query, but has shape {e.shape}."
        )
    return e


def _query(f: Float[np.ndarray, "n d"], metric: Metric) -> Float[np.ndarray, "n k"]:
    """f' of Note [planes and cones]."""
    return f if metric == "cosine" else np.concatenate([f, np.ones((len(f), 1))], 1)


def _anchors(a: Float[np.ndarray, "m d"], metric: Metric) -> Float[np.ndarray, "m k"]:
    """What u is the difference of."""
    one = np.ones((len(a), 1))
    if metric == "euclid":
        return np.concatenate([a, -(a * a).sum(1, keepdims=True) / 2], 1)
    if metric not in ("cosine", "lipsim"):
        raise InvalidProblem(f"`metric` must be cosine, euclid or lipsim, but is {metric!r}.")
    a = a if metric == "cosine" else np.concatenate([a, one], 1)
    length = np.linalg.norm(a, axis=1, keepdims=True)
    if not (length > FLOOR).all():
        raise InvalidProblem(
            "An anchor of length 0 has no direction, so no cosine. Leave it out, or use `euclid`."
        )
    return a / length


def _lengths(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    return np.linalg.norm(x, axis=1) * GENEROUS + FLOOR


def _lost(F: Float[np.ndarray, "n k"], size: Float[np.ndarray, " n"], d: int) -> Float[np.ndarray, " n"]:
    """Rounding of a difference of sums of products."""
    return 8 * gamma(d + 9) * _lengths(F) * size * GENEROUS + FLOOR


def _signed(
    top: np.ndarray, apart: np.ndarray, lost: np.ndarray, size: np.ndarray, constant: float | Bound, error: np.ndarray | float, d: int
) -> np.ndarray:  # fmt: skip
    """`top / apart`, less all rounding, over the constant, towards 0."""
    L = number("constant", constant)
    if not 0 < L < np.inf or not (np.asarray(error) >= 0).all():
        raise InvalidProblem(
            f"`constant` must be positive and finite, `error` not negative, but they are {L} and {error}. Use `embed`."
        )
    below = np.nextafter(abs(top) - lost, -np.inf)
    wide = np.nextafter(apart * (1 + gamma(d + 9)) + 8 * gamma(d + 9) * size, np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = np.where(below > 0, np.nextafter(below / wide, -np.inf), 0.0)
    each = np.nextafter(np.maximum(np.nextafter(each - error, -np.inf), 0.0) / L, -np.inf)
    return np.where(each > 0, np.copysign(each, top), 0.0)

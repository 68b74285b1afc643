r"""Proven lower bounds of what any scaling must cost, from the dual point that a solver proposes (weak duality, rounded down)."""

import numpy as np

from sdplip.arithmetic.elementary import LN2, log
from sdplip.arithmetic.powers import near_one, split
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, down, gamma
from sdplip.errors import InvalidScaling
from sdplip.geometry import Geometry
from sdplip.kernel.condition.certificate import Form
from sdplip.kernel.condition.convolution import statement
from sdplip.kernel.condition.symbol import Points, Symbol, halved, lattice_points
from sdplip.kernel.condition.validate import as_weight
from sdplip.shapes import Complex, Float

Vector = Float[np.ndarray, " n"]

LARGEST = 2.0**400
"""Entries of dual factors are below this: their squares are finite."""


def trace_lower_bound(
    W: Float[np.ndarray, "m n"], Y: Float[np.ndarray, "n r"], cost: Vector | None = None
) -> float:
    r"""Proven lower bound of $\mathrm{cost} \cdot t$ over all $t$ with $W^\top W \preceq \mathrm{diag}(t)$.

    $X = Y Y^\top \succeq 0$ with $X_{ii} \le \mathrm{cost}_i$ gives $\mathrm{cost} \cdot t \ge \langle \mathrm{diag}(t), X
    \rangle \ge \langle W^\top W, X \rangle = \lVert W Y \rVert_F^2$. Rows of `Y` that are too long are shortened first, so any
    `Y` is valid; the dual factor of `solve(MinTrace(W, cost))` gives the best value.
    """
    W = as_weight(W)
    Y, cost = _dual(Y, W.shape[1], cost)
    B, exponent = _near_one(W)
    Y = _shorten(Y, (Y * Y).sum(-1), cost, Y.shape[1])
    return _square_below(B @ Y, _error(B, Y), exponent)


def nearest_lower_bound(
    W: Float[np.ndarray, "m n"], Y: Float[np.ndarray, "n r"], target: Vector, weight: Vector
) -> float:
    r"""Proven lower bound of $\sum_i p_i (t_i - \hat t_i)^2$ over all $t$ with $W^\top W \preceq \mathrm{diag}(t)$.

    For any $X = Y Y^\top$ with diagonal $x$ it is $\langle W^\top W, X \rangle - \sum_i \hat t_i x_i - \sum_i x_i^2 / (4 p_i)$. What
    underflows in x is added to it before it is divided by $p_i$. Where nothing is proven, the bound is 0.
    """
    W = as_weight(W)
    Y, weight = _dual(Y, W.shape[1], weight)
    target = np.asarray(target, np.float64)
    if target.shape != weight.shape or not np.isfinite(target).all():
        raise InvalidScaling(f"`target` must hold {len(weight)} finite numbers.")
    B, exponent = _near_one(W)
    r = Y.shape[1]
    with np.errstate(all="ignore"):
        x = (Y * Y).sum(-1)
        above = x * (1 + gamma(r + 4)) + 2 * r * TINY
        quotient = above / (4 * weight) + 2 * TINY
        square = float((above * quotient + 2 * TINY).sum()) * (1 + gamma(len(x) + 8))
        linear = float(target @ x)
        slack = (
            gamma(len(x) + r + 12) * float(abs(target) @ above) + float(abs(target).sum()) * 4 * r * TINY
        ) * GENEROUS
        slack += 8 * len(x) * TINY
        gain = _square_below(B @ Y, _error(B, Y), exponent)
        value = (gain - linear - square) - (
            slack + 8 * UNIT * (gain + abs(linear) + square + slack)
        ) * GENEROUS
    return max(0.0, down(value)) if np.isfinite(value) else 0.0


def convolution_trace_lower_bound(
    K: Float[np.ndarray, "out in_per_group ..."],
    Y: Complex[np.ndarray, "f n r"],
    geometry: Geometry,
    *,
    form: Form = "linear",
    cost: Vector | None = None,
) -> float:
    r"""Proven lower bound of $\mathrm{cost} \cdot t$ over all $t$ with $M(\omega)^* M(\omega) \preceq \mathrm{diag}(t)$ at every
    frequency of `geometry.image_size`: hence over all $t$ that are valid for every image size.

    `Y` holds one factor for each frequency of a conjugate pair, in the order of the flattened half grid, as
    `solve(ConvolutionMinTrace.from_kernel(...))` returns it. The linear form needs stride 1.
    """
    K = as_weight(K, (3, 4, 5))
    expanded = geometry.expand(K.shape)
    if expanded.image_size is None or (form == "linear" and np.prod(expanded.stride) != 1):
        raise InvalidScaling(
            "The dual bound of a convolution needs an `image_size`, and stride 1 in the linear form."
        )
    channels = K.shape[0] if form == "residual" else K.shape[1] * expanded.groups
    stated = statement(K, np.ones(channels), geometry, form)
    lattice = stated.image_lattice
    if lattice is None:
        raise InvalidScaling(
            f"Images of {expanded.image_size} pixels have too many frequencies for a dual bound."
        )
    points = halved(lattice_points(lattice), lattice)
    Y = np.asarray(Y, np.complex128)
    if Y.ndim != 3 or Y.shape[:2] != (len(points), channels) or not (abs(Y) < LARGEST).all():
        raise InvalidScaling(
            f"`Y` must have shape {(len(points), channels)} and a rank axis, and finite entries, but its shape is {Y.shape}."
        )
    cost = _cost(cost, channels)
    mirror = np.any(points != -points % np.array(lattice), -1)
    weight = (1.0 + mirror)[:, None, None]
    used = Y.any((1, 2))  # the others add 0
    points, weight, Y = points[used], weight[used], Y[used]
    squares = (weight * (np.real(Y) ** 2 + np.imag(Y) ** 2)).sum((0, 2))
    Y = _shorten(Y, squares, cost, 2 * len(points) * Y.shape[2] + 4)
    width = channels // expanded.groups

    def value(Y: Complex[np.ndarray, "f n r"]) -> float:
        return sum(
            _symbol_value(
                symbol, points, lattice, weight, Y[:, symbol.group * width : (symbol.group + 1) * width]
            )
            for symbol in stated.symbols
        )

    # Whether a solver's frequencies turn clockwise is a convention: both readings are valid dual points.
    return max(0.0, down(max(value(Y), value(Y.conj())) * (1 - 4 * (len(stated.symbols) + 1) * UNIT)))


def _symbol_value(
    symbol: Symbol,
    points: Points,
    lattice: tuple[int, ...],
    weight: np.ndarray,
    Y: Complex[np.ndarray, "f n r"],
) -> float:
    r"""$\sum_\omega \mu_\omega \lVert M(\omega) Y_\omega \rVert_F^2$ rounded down, for a symbol whose $t$ is 1."""
    q, n = len(symbol.taps), symbol.shape[1]
    Z = np.sqrt(weight) * (symbol.at(points, lattice) @ Y)
    length = float(np.sqrt((weight * (np.real(Y) ** 2 + np.imag(Y) ** 2)).sum()))
    error = gamma(4 * n + q + 32) * 2 * float(np.linalg.norm(symbol.envelope)) * length
    return _square_below(np.stack([np.real(Z), np.imag(Z)]), error, symbol.exponent)


def log_det_lower_bound(W: Float[np.ndarray, "m n"], Y: Float[np.ndarray, "m r"]) -> float:
    r"""Proven lower bound of $\sum_i \log t_i$ (nonzero columns) over all $t$ with $W^\top W \preceq \mathrm{diag}(t)$.

    For every $Y = F F^\top$: $\sum_i \log t_i \ge n - \mathrm{tr} Y + \sum_i \log(w_i^\top Y w_i)$, because
    $\log s_i \le -\log y_i + y_i s_i - 1$ and $\sum_i y_i s_i = \langle Y, W \mathrm{diag}(s) W^\top \rangle \le
    \mathrm{tr} Y$. Logarithms are off by less than $2^{-44} (1 + |\log y|)$ (`arithmetic.elementary.log`). A `Y` with fewer
    columns than rows is taken for F; any F is valid, so it does not matter how it was found.
    """
    W = as_weight(W)
    m, e = split(W)
    W, e = W[:, used := m.any(0)], np.where(m[:, used] != 0, e[:, used], -5000).max(0)
    n = W.shape[1]
    m, own = split(W)
    B = np.ldexp(m, own - e)  # log t_i = log t'_i + 2 e_i log 2
    F = np.asarray(Y, np.float64)
    if F.ndim != 2 or len(F) != len(W):
        raise InvalidScaling(f"`Y` must be a matrix with {len(W)} rows, but its shape is {F.shape}.")
    if F.shape[1] >= len(F):
        values, vectors = np.linalg.eigh((F + F.T) / 2)
        F = vectors * np.sqrt(np.maximum(values, 0))
    top = abs(F).max(initial=0.0)
    if not 0 < top < np.inf:
        return -np.inf
    F = np.ldexp(F, -int(np.frexp(top)[1]))
    F = F * np.sqrt(n / float((F * F).sum()))
    error = gamma(W.shape[0]) * np.linalg.norm(B, axis=0) * float(np.linalg.norm(F)) * GENEROUS + 2.0**-500
    y = np.maximum(np.linalg.norm(F.T @ B, axis=0) * (1 - gamma(W.shape[0] + 4)) - error, 0.0) ** 2
    if not (y > TINY).all():
        return -np.inf
    logs = log(y) + 2 * e * LN2
    slack = 2.0**-44 * float((abs(log(y)) + abs(2 * e) + 1).sum()) + gamma(n + 4) * float(abs(logs).sum())
    trace = float((F * F).sum()) * (1 + gamma(F.size + 2))
    return down(float(logs.sum()) + (n - trace) - (slack + 4 * UNIT * n) * GENEROUS)


def _near_one(W: Float[np.ndarray, "m n"]) -> tuple[Float[np.ndarray, "m n"], int]:
    return near_one(W, np.zeros((1, 1), np.int64), (0, 1))


def _dual(Y: np.ndarray, n: int, cost: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    Y = np.asarray(Y, np.float64)
    if Y.ndim != 2 or len(Y) != n or not (abs(Y) < LARGEST).all():
        raise InvalidScaling(
            f"The dual factor `Y` must be finite, below 2^400, with {n} rows, but its shape is {Y.shape}."
        )
    return Y, _cost(cost, n)


def _cost(cost: np.ndarray | None, n: int) -> Vector:
    cost = np.ones(n) if cost is None else np.asarray(cost, np.float64)
    if cost.shape != (n,) or not (np.isfinite(cost) & (cost > 0)).all():
        raise InvalidScaling(f"`cost` must hold {n} positive numbers.")
    return cost


def _shorten(Y: np.ndarray, squares: Vector, cost: Vector, terms: int) -> np.ndarray:
    r"""`Y` with its rows (axis -2) shortened until $\lVert y_i \rVert^2 \le \mathrm{cost}_i$ holds with all rounding.

    `squares` are computed with at most `terms` additions each; what may underflow is added. Rows whose cost is below $2^{-900}$,
    where products would underflow, are left out.
    """
    above = squares * (1 + gamma(terms + 4)) + 4 * terms * TINY
    factor = np.minimum(1.0, np.sqrt(cost) / np.sqrt(np.maximum(above, TINY)) * (1 - 8 * UNIT))
    factor = np.where(cost < 2.0**-900, 0.0, factor)
    short = Y * factor[:, None]
    return np.where(abs(short) < 2.0**-500, 0.0, short)


def _error(B: np.ndarray, Y: np.ndarray) -> float:
    """Of the product of B and Y in Frobenius norm, but for `GENEROUS`."""
    return gamma(B.shape[1] + 2) * float(np.linalg.norm(B)) * float(np.linalg.norm(Y))


def _square_below(Z: np.ndarray, error: float, exponent: int) -> float:
    r"""$4^{\mathrm{exponent}} \lVert Z^* \rVert_F^2$ rounded down, for any $Z^*$ within `error` of $Z$ in Frobenius norm."""
    norm = float(np.linalg.norm(Z)) * (1 - gamma(Z.size + 4)) - (error + 2.0**-480) * GENEROUS
    root = max(0.0, norm) * (1 - 4 * UNIT)
    found = float(np.ldexp(down(root * root), 2 * exponent)) if root > 0 else 0.0
    return max(0.0, down(found)) if np.isfinite(found) else 0.0

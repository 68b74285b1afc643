r"""Proven lower bounds of what any scaling must cost, from the dual point that a solver proposes (weak duality, rounded down)."""

import numpy as np
from jaxtyping import Complex, Float, Int

from sdplip.certificates.certificate import Form
from sdplip.certificates.convolution import frequency_grid, kernel_symbols
from sdplip.certificates.rounding import GENEROUS, TINY, UNIT, down, gamma
from sdplip.certificates.symbol import Symbol
from sdplip.certificates.validate import as_weight
from sdplip.errors import InvalidScaling
from sdplip.geometry import Geometry


def trace_lower_bound(
    W: Float[np.ndarray, "m n"], Y: Float[np.ndarray, "n r"], cost: Float[np.ndarray, " n"] | None = None
) -> float:
    r"""Proven lower bound of $\mathrm{cost} \cdot t$ over all $t$ with $W^\top W \preceq \mathrm{diag}(t)$.

    $X = Y Y^\top \succeq 0$ with $X_{ii} \le \mathrm{cost}_i$ gives $\mathrm{cost} \cdot t \ge \langle \mathrm{diag}(t), X
    \rangle \ge \langle W^\top W, X \rangle = \lVert W Y \rVert_F^2$. Rows of `Y` that are too long are shortened first, so any
    `Y` is valid; the dual factor of `solve(MinTrace(W, cost))` gives the best value.
    """
    W = as_weight(W)
    Y, cost = _dual(Y, W.shape[1], cost)
    exponent = int(np.frexp(abs(W).max())[1])
    B = np.ldexp(W, -exponent)
    Y = _shorten(Y, (Y * Y).sum(-1), cost, Y.shape[1])
    Z = B @ Y
    error = gamma(W.shape[1]) * float(np.linalg.norm(B)) * float(np.linalg.norm(Y))
    return _square_below(Z, error, exponent)


def nearest_lower_bound(
    W: Float[np.ndarray, "m n"],
    Y: Float[np.ndarray, "n r"],
    target: Float[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"],
) -> float:
    r"""Proven lower bound of $\sum_i p_i (t_i - \hat t_i)^2$ over all $t$ with $W^\top W \preceq \mathrm{diag}(t)$.

    For any $X = Y Y^\top$ with diagonal $x$ it is $\langle W^\top W, X \rangle - \sum_i \hat t_i x_i - \sum_i x_i^2 / (4 p_i)$.
    """
    W = as_weight(W)
    Y, weight = _dual(Y, W.shape[1], weight)
    exponent = int(np.frexp(abs(W).max())[1])
    B = np.ldexp(W, -exponent)
    error = gamma(W.shape[1]) * float(np.linalg.norm(B)) * float(np.linalg.norm(Y))
    x = (Y * Y).sum(-1)
    linear, square = float(target @ x), float((x * x / (4 * weight)).sum())
    slack = gamma(sum(Y.shape) + 12) * (float(abs(target) @ x) + square) + 4 * Y.size * TINY
    gain = _square_below(B @ Y, error, exponent)
    return down((gain - linear - square) - (slack + 4 * UNIT * (gain + abs(linear) + square)) * GENEROUS)


def convolution_trace_lower_bound(
    K: Float[np.ndarray, "out in_per_group ..."],
    Y: Complex[np.ndarray, "f n r"],
    geometry: Geometry,
    *,
    form: Form = "linear",
    cost: Float[np.ndarray, " n"] | None = None,
) -> float:
    r"""Proven lower bound of $\mathrm{cost} \cdot t$ over all $t$ with $M(\omega)^* M(\omega) \preceq \mathrm{diag}(t)$ at every
    frequency of `geometry.image_size`: hence over all $t$ that are valid for every image size.

    `Y` holds one factor for each frequency of a conjugate pair, in the order of the flattened half grid, as
    `solve(ConvolutionMinTrace.from_kernel(...))` returns it. The linear form needs stride 1.
    """
    K = as_weight(K, (3, 4, 5))
    geometry = geometry.expand(K.shape)
    if geometry.image_size is None or (form == "linear" and np.prod(geometry.stride) != 1):
        raise InvalidScaling(
            "The dual bound of a convolution needs an `image_size`, and stride 1 in the linear form."
        )
    channels = K.shape[0] if form == "residual" else K.shape[1] * geometry.groups
    ones = np.ones(channels)
    groups = kernel_symbols(K, ones, geometry, form, frequency_grid(K.shape[2:], geometry, None))
    points = groups[0][1].frequencies()
    Y = np.asarray(Y, np.complex128)
    if Y.shape[:2] != (len(points), channels):
        raise InvalidScaling(
            f"`Y` must have shape {(len(points), channels)} and a rank axis, but its shape is {Y.shape}."
        )
    cost = ones if cost is None else np.asarray(cost, np.float64)
    mirror = np.any(points != -points % np.array(groups[0][1].grid), -1)
    weight = (1.0 + mirror)[:, None, None]
    squares = (weight * (np.real(Y) ** 2 + np.imag(Y) ** 2)).sum((0, 2))
    Y = _shorten(Y, squares, cost, 2 * len(points) * Y.shape[2] + 4)
    width = channels // geometry.groups

    def value(Y: Complex[np.ndarray, "f n r"]) -> float:
        parts = [
            (symbol, Y[:, group * width : (group + 1) * width][:, symbol.columns]) for group, symbol in groups
        ]
        return sum(_symbol_value(symbol, points, weight, rows) for symbol, rows in parts)

    # Whether a solver's frequencies turn clockwise is a convention: both readings are valid dual points.
    return down(max(value(Y), value(Y.conj())) * (1 - 4 * len(groups) * UNIT))


def _symbol_value(
    symbol: Symbol, points: Int[np.ndarray, "f axes"], weight: np.ndarray, Y: Complex[np.ndarray, "f n r"]
) -> float:
    r"""$\sum_\omega \mu_\omega \lVert M(\omega) Y_\omega \rVert_F^2$ rounded down, for a symbol whose $t$ is 1."""
    q, _, n = symbol.taps.shape
    real, imaginary = symbol.at(points)
    Z = np.sqrt(weight) * ((real + 1j * imaginary) @ Y)
    length = float(np.sqrt((weight * abs(Y) ** 2).sum()))
    error = gamma(4 * n + q + 12) * 2 * symbol.envelope_square**0.5 * length
    return _square_below(np.stack([Z.real, Z.imag]), error, symbol.exponent)


def log_det_lower_bound(W: Float[np.ndarray, "m n"], Y: Float[np.ndarray, "m m"]) -> float:
    r"""Proven lower bound of $\sum_i \log t_i$ (nonzero columns) over all $t$ with $W^\top W \preceq \mathrm{diag}(t)$.

    For every $Y = F F^\top$: $\sum_i \log t_i \ge n - \mathrm{tr} Y + \sum_i \log(w_i^\top Y w_i)$, because
    $\log s_i \le -\log y_i + y_i s_i - 1$ and $\sum_i y_i s_i = \langle Y, W \mathrm{diag}(s) W^\top \rangle \le
    \mathrm{tr} Y$. The mathematical library's logarithm is taken to be accurate to $2^{-44}$, relative and absolute.
    """
    W = as_weight(W)
    W = W[:, W.any(0)]
    n = W.shape[1]
    e = np.frexp(abs(W).max(0))[1]
    B = np.ldexp(W, -e)  # log t_i = log t'_i + 2 e_i log 2
    values, vectors = np.linalg.eigh((np.asarray(Y, np.float64) + np.asarray(Y, np.float64).T) / 2)
    F = vectors * np.sqrt(np.maximum(values, 0))
    if not F.any():
        return -np.inf
    F = F * np.sqrt(n / float((F * F).sum()))
    error = gamma(W.shape[0]) * np.linalg.norm(B, axis=0) * float(np.linalg.norm(F)) * GENEROUS
    y = np.maximum(np.linalg.norm(F.T @ B, axis=0) * (1 - gamma(W.shape[0] + 4)) - error, 0.0) ** 2
    if not (y > 0).all():
        return -np.inf
    logs = np.log(y) + 2 * e * np.log(2.0)
    slack = 2.0**-44 * float((abs(np.log(y)) + abs(2 * e) + 1).sum()) + gamma(n + 4) * float(abs(logs).sum())
    trace = float((F * F).sum()) * (1 + gamma(F.size + 2))
    return down(float(logs.sum()) + (n - trace) - (slack + 4 * UNIT * n) * GENEROUS)


def _dual(Y: np.ndarray, n: int, cost: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    Y = np.asarray(Y, np.float64)
    cost = np.ones(n) if cost is None else np.asarray(cost, np.float64)
    if Y.ndim != 2 or len(Y) != n or not np.isfinite(Y).all():
        raise InvalidScaling(f"The dual factor `Y` must be finite with {n} rows, but its shape is {Y.shape}.")
    if cost.shape != (n,) or not (cost > 0).all():
        raise InvalidScaling(f"`cost` must hold {n} positive numbers.")
    return Y, cost


def _shorten(Y: np.ndarray, squares: np.ndarray, cost: np.ndarray, terms: int) -> np.ndarray:
    r"""`Y` with its rows (axis -2) shortened until $\lVert y_i \rVert^2 \le \mathrm{cost}_i$ holds with all rounding.

    `squares` are computed with at most `terms` additions each."""
    above = squares * (1 + gamma(terms + 4)) + terms * TINY
    factor = np.minimum(1.0, np.sqrt(cost / np.maximum(above, TINY)) * (1 - 8 * UNIT))
    return Y * factor[:, None]


def _square_below(Z: np.ndarray, error: float, exponent: int) -> float:
    r"""$4^{\mathrm{exponent}} \lVert Z^* \rVert_F^2$ rounded down, for any $Z^*$ within `error` of $Z$ in Frobenius norm."""
    norm = float(np.linalg.norm(Z)) * (1 - gamma(Z.size + 4)) - (error + 2.0**-500) * GENEROUS
    root = max(0.0, norm) * (1 - 4 * UNIT)
    return max(0.0, down(float(np.ldexp(down(root * root), 2 * exponent))))

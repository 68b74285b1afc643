r"""The optimisation problems of sdplip as plain data, each with its objective and the lower bound that a dual point proves.

Weak duality lives here and not in the solvers: `objective(t)` and `lower(dual)` are the same short formulas for everyone, so
an interval [lower, objective] can be recomputed from the numbers alone. They are floating-point values, not proofs.
Every array is a read-only float64 (or complex128) copy.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Complex, Float

from sdplip.errors import InvalidProblem, InvalidWeight, UnsupportedConvolution
from sdplip.geometry import Geometry


@dataclass(frozen=True, eq=False)
class MinTrace:
    r"""Minimise $\sum_i c_i t_i$ subject to $W^\top W \preceq \mathrm{diag}(t)$.

    The dual of the MaxCut relaxation: maximise $\langle W^\top W, X\rangle$ subject to $X_{ii} = c_i$, $X \succeq 0$.

    Attributes:
        W: weight matrix; a zero column gets `t == 0`.
        cost: positive; ones by default.
    """

    W: Float[np.ndarray, "m n"]
    cost: Float[np.ndarray, " n"] = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        _set(self, W=_weight(self.W), cost=self.cost)
        _set(self, cost=_positive("cost", self.cost, self.W.shape[-1]))

    def objective(self, t: Float[np.ndarray, " n"]) -> float:
        r"""$\sum_i c_i t_i$."""
        return float(self.cost @ t)

    def lower(self, dual: Float[np.ndarray, "n r"]) -> float:
        r"""$\lVert W Y \rVert_F^2$ for a factor $X = Y Y^\top$ with $\lVert y_i\rVert^2 \le c_i$; any other Y is first divided down to that."""
        return float(np.sum((self.W @ dual) ** 2)) / _excess((dual * dual).sum(-1), self.cost)


@dataclass(frozen=True, eq=False)
class MaxVolume:
    r"""Minimise $\sum_i \log t_i$ (the largest box $\prod_i s_i$, $s = 1/t$) subject to $W \mathrm{diag}(s) W^\top \preceq I$.

    The constraint is $W^\top W \preceq \mathrm{diag}(t)$ in other words. A zero column gets `t == 0` and is left out of the sum.
    Dual: maximise $n - \mathrm{tr} Y + \sum_i \log(w_i^\top Y w_i)$ over $Y \succeq 0$; at the optimum $t_i = w_i^\top Y w_i$.

    Attributes:
        W: weight matrix.
    """

    W: Float[np.ndarray, "m n"]

    def __post_init__(self):
        _set(self, W=_weight(self.W))

    def objective(self, t: Float[np.ndarray, " n"]) -> float:
        r"""$\sum_i \log t_i$ over the nonzero columns."""
        return float(np.log(t[self.W.any(0)]).sum())

    def lower(self, dual: Float[np.ndarray, "m m"]) -> float:
        r"""$n - \mathrm{tr} Y + \sum_i \log(w_i^\top Y w_i)$ for a symmetric positive semidefinite Y."""
        W = self.W[:, self.W.any(0)]
        forms = (W * (dual @ W)).sum(0)
        return float(W.shape[1] - np.trace(dual) + np.log(forms).sum()) if np.all(forms > 0) else -np.inf


@dataclass(frozen=True, eq=False)
class Nearest:
    r"""Minimise $\sum_i p_i (t_i - \hat t_i)^2$ subject to $W^\top W \preceq \mathrm{diag}(t)$: the least change that makes $\hat t$ feasible.

    Dual: maximise $\langle W^\top W, X\rangle - \sum_i \hat t_i X_{ii} - \sum_i X_{ii}^2 / (4 p_i)$ over $X \succeq 0$; $t_i = \hat t_i + X_{ii} / (2 p_i)$.

    Attributes:
        W: weight matrix.
        target: the wish; any sign.
        weight: positive; ones by default.
    """

    W: Float[np.ndarray, "m n"]
    target: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"] = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        _set(self, W=_weight(self.W))
        n = self.W.shape[-1]
        _set(self, target=_array("target", self.target, (n,)), weight=_positive("weight", self.weight, n))

    def objective(self, t: Float[np.ndarray, " n"]) -> float:
        r"""$\sum_i p_i (t_i - \hat t_i)^2$."""
        return float(self.weight @ (t - self.target) ** 2)

    def lower(self, dual: Float[np.ndarray, "n r"]) -> float:
        r"""Value of the dual at $X = Y Y^\top$, for any factor Y."""
        x = (dual * dual).sum(-1)
        return float(np.sum((self.W @ dual) ** 2) - self.target @ x - (x * x / self.weight).sum() / 4)


@dataclass(frozen=True, eq=False)
class ResidualLMI:
    r"""Smallest $\gamma$ (or any multipliers at the given one) that prove $h(x) = H x + G \sigma(W^\top x + b)$ $\sqrt\gamma$-Lipschitz.

    With slopes of $\sigma$ in $[\alpha, \beta]$ every unit obeys $(v - \alpha z)(\beta z - v) \ge 0$ for increments $z = w_i^\top x$ and
    $v$ of $\sigma$. The S-procedure subtracts $2 \lambda_i$ times it from $\gamma |x|^2 - |H x + G v|^2$ and asks for

    $$\begin{bmatrix} \gamma I - H^\top H + 2\alpha\beta W \Lambda W^\top & -H^\top G - (\alpha + \beta) W \Lambda \\
      \cdot & 2 \Lambda - G^\top G \end{bmatrix} \succeq 0, \qquad \Lambda \ge 0 \text{ diagonal}$$

    (SLL, Theorem 4, is $\alpha = 0, \beta = 1$). Substituting $v = \alpha z + (\beta - \alpha) u$ turns it into the same LMI with slopes in
    $[0, 1]$ for $H + \alpha G W^\top$, $(\beta - \alpha) G$ and $(\beta - \alpha)^2 \Lambda$: see `shifted`.

    Dual, on the shifted data: maximise $\lVert [H\; G] Y \rVert_F^2$ over factors $Y = [Y_x; Y_u]$ with $\lVert Y_x \rVert_F^2 = 1$ and
    $\lVert u_i \rVert^2 \le \langle u_i, w_i^\top Y_x\rangle$ for every row $u_i$ of $Y_u$.

    Attributes:
        H: `(k, d)`.
        G: `(k, n)`; a unit whose column of `W` is zero is a constant, so its column here is set to zero.
        W: `(d, n)`.
        alpha, beta: least and greatest slope, `alpha < beta`.
        gamma: the squared constant asked for; None minimises it.
    """

    H: Float[np.ndarray, "k d"]
    G: Float[np.ndarray, "k n"]
    W: Float[np.ndarray, "d n"]
    alpha: float = 0.0
    beta: float = 1.0
    gamma: float | None = None

    def __post_init__(self):
        _set(self, H=_weight(self.H, "H"), W=_weight(self.W))
        _set(self, G=_array("G", self.G, (self.H.shape[0], self.W.shape[1])) * self.W.any(0))
        if self.H.shape[1] != self.W.shape[0]:
            raise InvalidProblem(
                f"`H` has {self.H.shape[1]} columns but `W` has {self.W.shape[0]} rows: both are the length of x in H x + G sigma(W^T x)."
            )
        if not (-np.inf < self.alpha < self.beta < np.inf):
            raise InvalidProblem(
                f"`alpha` must be less than `beta`, both finite, but they are {self.alpha} and {self.beta}."
                " With equal slopes the map is affine: take the spectral norm of H + alpha G W^T."
            )
        if self.gamma is not None and not 0 < self.gamma < np.inf:
            raise InvalidProblem(
                f"`gamma` must be positive and finite, but is {self.gamma}. Leave it out to have it minimised."
            )

    def shifted(self) -> tuple[Float[np.ndarray, "k d"], Float[np.ndarray, "k n"]]:
        r"""H and G of the same map written with slopes in [0, 1]: $(H + \alpha G W^\top, (\beta - \alpha) G)$."""
        return self.H + self.alpha * self.G @ self.W.T, (self.beta - self.alpha) * self.G

    def matrix(self, gamma: float, multipliers: Float[np.ndarray, " n"]) -> Float[np.ndarray, "dn dn"]:
        """The matrix of the LMI, order `d + n`, with the slopes as given."""
        H, G, W, both = self.H, self.G, self.W, self.alpha * self.beta
        WL = W * multipliers
        corner = gamma * np.eye(W.shape[0]) - H.T @ H + 2 * both * WL @ W.T
        side = -H.T @ G - (self.alpha + self.beta) * WL
        return np.block([[corner, side], [side.T, 2 * np.diag(multipliers) - G.T @ G]])

    def lower(self, dual: Float[np.ndarray, "dn r"]) -> float:
        r"""Value of the dual after the rows $u_i$ have been shortened to their constraint and Y has been scaled to it."""
        H, G = self.shifted()
        Yx, Yu = np.split(dual, [self.W.shape[0]])
        squares = (Yu * Yu).sum(-1)
        inner = (Yu * (self.W.T @ Yx)).sum(-1)
        shorten = np.clip(inner / np.where(squares > 0, squares, 1), 0, 1)
        total = np.sum(Yx * Yx)
        return float(np.sum((H @ Yx + G @ (shorten[:, None] * Yu)) ** 2) / total) if total > 0 else 0.0


@dataclass(frozen=True, eq=False)
class ConvolutionMinTrace:
    r"""Minimise $\sum_i c_i t_i$ subject to $\hat K(\omega)^* \hat K(\omega) \preceq \mathrm{diag}(t)$ at every frequency.

    Dual: maximise $\sum_\omega \mu_\omega \lVert \hat K(\omega) Y_\omega \rVert_F^2$ subject to $\sum_\omega \mu_\omega \lVert y_{\omega i} \rVert^2 \le c_i$.

    Attributes:
        symbols: one matrix a frequency, `(F, m, n)`; one of each conjugate pair is enough, since t is real.
        multiplicity: how many frequencies each stands for; it only weighs the dual.
        cost: positive; ones by default.
    """

    symbols: Complex[np.ndarray, "F m n"]
    multiplicity: Float[np.ndarray, " F"]
    cost: Float[np.ndarray, " n"] = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        symbols = np.array(self.symbols, dtype=np.complex128)
        if symbols.ndim != 3 or 0 in symbols.shape or not np.isfinite(symbols).all():
            raise InvalidWeight(
                f"`symbols` must be finite numbers of shape (frequencies, m, n), but the shape is {symbols.shape}."
            )
        _set(self, symbols=symbols, multiplicity=_positive("multiplicity", self.multiplicity, len(symbols)))
        _set(self, cost=_positive("cost", self.cost, symbols.shape[-1]))

    @classmethod
    def from_kernel(
        cls, K: Any, geometry: Geometry, form: str = "linear", cost: Any = None
    ) -> "ConvolutionMinTrace":
        r"""The problem of a convolution layer on images of a known size.

        Circular padding: the frequencies are those of the image. Zero padding of any amount: the layer is a compression of the
        circular convolution on the image enlarged by the reach of the kernel, so the condition there is enough.

        Args:
            K: kernel `(out, in / groups, *taps)`, as in torch.
            geometry: with `image_size`. Strides are covered exactly in the residual form (the frequencies that alias are stacked).
            form: "linear", t on the input channels of x -> K x; "residual", t on the output channels of K in x - 2 K^T T^{-1} sigma(K x).
            cost: one number a channel of t.

        Raises:
            UnsupportedConvolution: no image size, or a stride in the linear form.
        """
        K = _kernel(K)
        geometry = geometry.expand(K.shape)
        grid, stride = _grid(K.shape, geometry), _axes(geometry.stride)
        if form not in ("linear", "residual"):
            raise InvalidProblem(f'`form` must be "linear" or "residual", but is "{form}".')
        if form == "linear" and max(stride) > 1:
            raise UnsupportedConvolution(
                f"The linear form needs a different t for each of the {np.prod(stride)} pixels of a stride {stride}."
                " Pass `stride=1`: a stride only drops outputs, so its scaling is valid for every stride."
            )
        symbols = _symbols(K, geometry, grid)
        if form == "residual":
            symbols = _alias(symbols.conj().swapaxes(-1, -2), stride)
        half, multiplicity = _one_of_each_pair(symbols.shape[:-2])
        return cls(symbols[half], multiplicity, cost)

    def objective(self, t: Float[np.ndarray, " n"]) -> float:
        r"""$\sum_i c_i t_i$."""
        return float(self.cost @ t)

    def lower(self, dual: Complex[np.ndarray, "F n r"]) -> float:
        r"""Value of the dual at the factors $Y_\omega$, divided down to the constraint where they exceed it."""
        value = self.multiplicity @ (abs(self.symbols @ dual) ** 2).sum((-2, -1))
        return float(value) / _excess(self.multiplicity @ (abs(dual) ** 2).sum(-1), self.cost)


Problem = MinTrace | MaxVolume | Nearest | ResidualLMI | ConvolutionMinTrace


def _excess(used: Float[np.ndarray, " n"], allowed: Float[np.ndarray, " n"]) -> float:
    return max(1.0, float(np.max(used / allowed)))


def _set(problem: Any, **fields: Any) -> None:
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
        object.__setattr__(problem, name, value)


def _array(
    name: str, value: Any, shape: tuple[int, ...], error: type[Exception] = InvalidProblem
) -> np.ndarray:
    if np.iscomplexobj(value):
        raise error(f"`{name}` must be real, but holds complex numbers.")
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as reason:
        raise error(f"`{name}` must be an array of real numbers: {reason}.") from reason
    if array.shape != shape:
        raise error(f"`{name}` must have the shape {shape}, but has the shape {array.shape}.")
    if not np.isfinite(array).all():
        raise error(f"`{name}` holds {np.sum(~np.isfinite(array))} entries that are NaN or infinite.")
    return array


def _weight(value: Any, name: str = "W") -> Float[np.ndarray, "m n"]:
    shape = np.shape(value)
    if len(shape) != 2 or 0 in shape:
        raise InvalidWeight(f"`{name}` must be a matrix with at least one entry, but has the shape {shape}.")
    return _array(name, value, shape, InvalidWeight)


def _kernel(value: Any) -> Float[np.ndarray, "out in *taps"]:
    shape = np.shape(value)
    if len(shape) < 3 or 0 in shape:
        raise InvalidWeight(
            f"`K` must be a kernel (out, in / groups, *taps) with at least one entry, but has the shape {shape}."
        )
    return _array("K", value, shape, InvalidWeight)


def _positive(name: str, value: Any, n: int) -> Float[np.ndarray, " n"]:
    array = np.ones(n) if value is None else _array(name, value, (n,))
    if np.any(array <= 0):
        i = int(np.argmin(array))
        raise InvalidProblem(
            f"`{name}` must be positive, but entry {i} is {array[i]}. Drop the column, or give it a small one."
        )
    return array


def _axes(value: Any) -> tuple[int, ...]:
    return tuple(value)  # `Geometry.expand` has made a tuple of it


def _grid(shape: tuple[int, ...], geometry: Geometry) -> tuple[int, ...]:
    """Size of the circular convolution that the layer is, or is a compression of; a multiple of the stride."""
    if geometry.image_size is None:
        raise UnsupportedConvolution(
            "The optimum over frequencies needs `image_size`. Use a scaling of the autocorrelation for all sizes."
        )
    size, stride, dilation = _axes(geometry.image_size), _axes(geometry.stride), _axes(geometry.dilation)
    if geometry.padding_mode == "circular":
        if any(n % s for n, s in zip(size, stride, strict=True)):
            raise UnsupportedConvolution(f"The stride {stride} must divide the circular image {size}.")
        return size
    reach = [d * (k - 1) for d, k in zip(dilation, shape[2:], strict=True)]
    return tuple(-(-(n + r) // s) * s for n, r, s in zip(size, reach, stride, strict=True))


def _symbols(K: Float[np.ndarray, "out in *taps"], geometry: Geometry, grid: tuple[int, ...]) -> np.ndarray:
    r"""$\hat K(\omega)$ on the whole grid, shape `(*grid, out, in)`; groups become blocks, far taps wrap around."""
    out, each, *taps = K.shape
    placed = np.zeros((*grid, out, each * geometry.groups))
    step, dilation = out // geometry.groups, _axes(geometry.dilation)
    for tap in np.ndindex(*taps):
        at = tuple(k * d % n for k, d, n in zip(tap, dilation, grid, strict=True))
        for g in range(geometry.groups):
            rows, columns = slice(g * step, (g + 1) * step), slice(g * each, (g + 1) * each)
            placed[(*at, rows, columns)] += K[(rows, slice(None), *tap)]
    return np.fft.fftn(placed, axes=tuple(range(len(grid))))


def _alias(symbols: np.ndarray, stride: tuple[int, ...]) -> np.ndarray:
    r"""Symbols of an adjoint strided convolution: the frequencies that a stride makes equal are stacked over the rows.

    $(S C)(S C)^*$ for the subsampling S averages $\hat K \hat K^*$ over the aliases.
    """
    *grid, m, n = symbols.shape
    split = [size for g, s in zip(grid, stride, strict=True) for size in (s, g // s)]
    d = len(grid)
    order = [*range(1, 2 * d, 2), *range(0, 2 * d, 2), 2 * d, 2 * d + 1]
    coarse = tuple(g // s for g, s in zip(grid, stride, strict=True))
    aliases = int(np.prod(stride))
    return symbols.reshape(*split, m, n).transpose(order).reshape(*coarse, aliases * m, n) / np.sqrt(aliases)


def _one_of_each_pair(grid: tuple[int, ...]) -> tuple[tuple[np.ndarray, ...], Float[np.ndarray, " F"]]:
    """Indices of one frequency of each conjugate pair of the grid, and how many frequencies each stands for."""
    flat = np.arange(int(np.prod(grid)))
    index = np.unravel_index(flat, grid)
    mirror = np.ravel_multi_index(tuple(-i % n for i, n in zip(index, grid, strict=True)), grid)
    keep = flat <= mirror
    return tuple(i[keep] for i in index), 1.0 + (flat < mirror)[keep]

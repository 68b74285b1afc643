r"""The optimisation problems of sdplip as plain data, each with its objective and its lower bound.

Weak duality lives here and not in the solvers: `objective(t)` and `lower(dual)` are the same short formulas
for everyone, so an interval [lower, objective] can be recomputed from the numbers alone. They are
floating-point values, not proofs. Every array is a read-only float64 (or complex128) copy.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Complex, Float

from sdplip.convolution import Form, symbol
from sdplip.convolution.layout import Layout, layout
from sdplip.errors import InvalidProblem, InvalidWeight, UnsupportedConvolution
from sdplip.geometry import Geometry


@dataclass(frozen=True, eq=False)
class MinTrace:
    r"""Minimise $\sum_i c_i t_i$ subject to $W^\top W \preceq \mathrm{diag}(t)$.

    Dual (the MaxCut relaxation): maximise $\langle W^\top W, X\rangle$ over $X \succeq 0$, $X_{ii} = c_i$.

    Attributes:
        W: weight matrix; a zero column gets `t == 0`.
        cost: positive; ones by default.
    """

    W: Float[np.ndarray, "m n"]
    cost: Float[np.ndarray, " n"] = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        _set(self, W=_weight(self.W))
        _set(self, cost=_positive("cost", self.cost, self.W.shape[-1]))

    def objective(self, t: Float[np.ndarray, " n"]) -> float:
        r"""$\sum_i c_i t_i$."""
        return float(self.cost @ t)

    def lower(self, dual: Float[np.ndarray, "n r"]) -> float:
        r"""$\lVert W Y \rVert_F^2$ for $X = Y Y^\top$ with rows $\lVert y_i\rVert^2 \le c_i$.

        A Y that exceeds the constraint is first divided down to it, so any Y gives a bound.
        """
        return float(np.sum((self.W @ dual) ** 2)) / _excess((dual * dual).sum(-1), self.cost)


@dataclass(frozen=True, eq=False)
class MaxVolume:
    r"""Minimise $\sum_i \log t_i$ subject to $W^\top W \preceq \mathrm{diag}(t)$.

    With $s = 1/t$ the constraint is $W \mathrm{diag}(s) W^\top \preceq I$ and the problem is convex: the box
    $\prod_i s_i$ of greatest volume. A zero column gets `t == 0` and is left out of the sum.
    Dual: maximise $n - \mathrm{tr} Y + \sum_i \log(w_i^\top Y w_i)$ over $Y \succeq 0$; at the optimum
    $t_i = w_i^\top Y w_i$.

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
    r"""Minimise $\sum_i p_i (t_i - \hat t_i)^2$ subject to $W^\top W \preceq \mathrm{diag}(t)$: least repair.

    Dual: maximise $\langle W^\top W, X\rangle - \sum_i \hat t_i X_{ii} - \sum_i X_{ii}^2 / (4 p_i)$ over
    $X \succeq 0$; at the optimum $t_i = \hat t_i + X_{ii} / (2 p_i)$.

    Attributes:
        W: weight matrix.
        target: the wish; of any sign.
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
    r"""Smallest $\gamma$ with a proof that $h(x) = H x + G \sigma(W^\top x + b)$ is $\sqrt\gamma$-Lipschitz.

    With slopes of $\sigma$ in $[\alpha, \beta]$ the increments $z_i = w_i^\top x$ and $v_i$ (of $\sigma$) of
    every unit obey $(v_i - \alpha z_i)(\beta z_i - v_i) \ge 0$. The S-procedure subtracts $2 \lambda_i$ times
    that from $\gamma |x|^2 - |H x + G v|^2$ and asks that the form in $(x, v)$ stay nonnegative:

    $$\begin{bmatrix}
        \gamma I - H^\top H + 2\alpha\beta W \Lambda W^\top & -H^\top G - (\alpha + \beta) W \Lambda \\
        \cdot & 2 \Lambda - G^\top G
      \end{bmatrix} \succeq 0, \qquad \Lambda \ge 0 \text{ diagonal}$$

    SLL, Theorem 4, is $\alpha = 0, \beta = 1$. Substituting $v = \alpha z + (\beta - \alpha) u$ gives that
    case for $H + \alpha G W^\top$, $(\beta - \alpha) G$ and $(\beta - \alpha)^2 \Lambda$: see `shifted`.

    Dual, on the shifted data: maximise $\lVert [H\; G] Y \rVert_F^2$ over $Y = [Y_x; Y_u]$ with
    $\lVert Y_x \rVert_F^2 = 1$ and rows $u_i$ of $Y_u$ with $\lVert u_i \rVert^2 \le \langle u_i, w_i^\top Y_x\rangle$.

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
        if self.H.shape[1] != self.W.shape[0]:
            raise InvalidProblem(
                f"`H` has {self.H.shape[1]} columns but `W` has {self.W.shape[0]} rows:"
                " both must be the length of x in H x + G sigma(W^T x + b)."
            )
        _set(self, G=_array("G", self.G, (self.H.shape[0], self.W.shape[1])) * self.W.any(0))
        if not -np.inf < self.alpha < self.beta < np.inf:
            raise InvalidProblem(
                f"`alpha` must be less than `beta`, both finite, but they are {self.alpha} and {self.beta}."
                " With equal slopes the map is affine: take the spectral norm of H + alpha G W^T."
            )
        if self.gamma is not None and not 0 < self.gamma < np.inf:
            raise InvalidProblem(
                f"`gamma` must be positive and finite, but is {self.gamma}. None minimises it."
            )

    def shifted(self) -> tuple[Float[np.ndarray, "k d"], Float[np.ndarray, "k n"]]:
        r"""H and G of the same map with slopes in [0, 1]: $(H + \alpha G W^\top, (\beta - \alpha) G)$."""
        return self.H + self.alpha * self.G @ self.W.T, (self.beta - self.alpha) * self.G

    def matrix(self, gamma: float, multipliers: Float[np.ndarray, " n"]) -> Float[np.ndarray, "dn dn"]:
        """The matrix of the LMI, of order `d + n`, with the slopes as given."""
        H, G, W = self.H, self.G, self.W
        WL = W * multipliers
        corner = gamma * np.eye(W.shape[0]) - H.T @ H + 2 * self.alpha * self.beta * WL @ W.T
        side = -H.T @ G - (self.alpha + self.beta) * WL
        return np.block([[corner, side], [side.T, 2 * np.diag(multipliers) - G.T @ G]])

    def objective(self, multipliers: Float[np.ndarray, " n"]) -> float:
        r"""The smallest $\gamma$ that goes with these multipliers, by a Schur complement; inf if none does.

        There is one if $2 \Lambda - G^\top G$ is positive definite on the units that act (nonzero column in G) and
        the multipliers of the others are not negative.
        """
        act = self.G.any(0) | (multipliers != 0)
        G, W, L = self.G[:, act], self.W[:, act], multipliers[act]
        if np.any(L <= 0):
            return np.inf
        scale = L**-0.5
        try:
            factor = np.linalg.cholesky(2 * np.eye(len(L)) - (G * scale).T @ (G * scale))
        except np.linalg.LinAlgError:
            return np.inf
        side = np.linalg.solve(factor, ((self.H.T @ G + (self.alpha + self.beta) * W * L) * scale).T)
        corner = self.H.T @ self.H - 2 * self.alpha * self.beta * (W * L) @ W.T
        return max(0.0, float(np.linalg.eigvalsh(corner + side.T @ side)[-1]))

    def lower(self, dual: Float[np.ndarray, "dn r"]) -> float:
        """Value of the dual at any Y, whose rows $u_i$ are first shortened to their constraint, then all scaled."""
        H, G = self.shifted()
        Yx, Yu = np.split(dual, [self.W.shape[0]])
        squares, total = (Yu * Yu).sum(-1), np.sum(Yx * Yx)
        inner = (Yu * (self.W.T @ Yx)).sum(-1)
        shorten = np.clip(inner / np.where(squares > 0, squares, 1), 0, 1)[:, None]
        return float(np.sum((H @ Yx + G @ (shorten * Yu)) ** 2) / total) if total > 0 else 0.0


@dataclass(frozen=True, eq=False)
class ConvolutionMinTrace:
    r"""Minimise $\sum_i c_i t_i$ subject to $\hat K(\omega)^* \hat K(\omega) \preceq \mathrm{diag}(t)$.

    It holds at every frequency $\omega$ of a grid. Dual: maximise
    $\sum_\omega \mu_\omega \lVert \hat K(\omega) Y_\omega \rVert_F^2$ subject to
    $\sum_\omega \mu_\omega \lVert y_{\omega i} \rVert^2 \le c_i$ for every channel i.

    Attributes:
        symbols: one matrix a frequency, `(F, m, n)`; one of each conjugate pair is enough, since t is real.
        multiplicity: how many frequencies each stands for; it only weighs the dual.
        cost: positive; ones by default.
    """

    symbols: Complex[np.ndarray, "F m n"]
    multiplicity: Float[np.ndarray, " F"] = None  # pyright: ignore[reportAssignmentType]
    cost: Float[np.ndarray, " n"] = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        symbols = np.array(self.symbols, dtype=np.complex128)
        if symbols.ndim != 3 or 0 in symbols.shape or not np.isfinite(symbols).all():
            raise InvalidWeight(
                f"`symbols` must be finite, shape (frequencies, m, n), but the shape is {symbols.shape}."
            )
        _set(self, symbols=symbols, multiplicity=_positive("multiplicity", self.multiplicity, len(symbols)))
        _set(self, cost=_positive("cost", self.cost, symbols.shape[-1]))

    @classmethod
    def from_kernel(
        cls, K: Any, geometry: Geometry, form: Form = "linear", cost: Any = None
    ) -> "ConvolutionMinTrace":
        r"""The problem of a convolution layer on images of a known size.

        Circular padding: the frequencies are those of the image. Zero padding of any amount: the layer is a
        submatrix of the circular convolution on a larger image, so the condition there suffices.

        Args:
            K: kernel `(out, in / groups, *taps)`, as in torch.
            geometry: with `image_size`. A stride is covered exactly in the residual form (polyphase symbols).
            form: "linear": t on the input channels of x -> K x; "residual": t on the output channels of K in
                x -> x - 2 K^T T^{-1} sigma(K x + b).
            cost: one number a channel of t.

        Raises:
            UnsupportedConvolution: no image size, or a stride in the linear form.
        """
        K = _kernel(K)
        axes = layout(K, geometry)
        if form not in ("linear", "residual"):
            raise InvalidProblem(f'`form` must be "linear" or "residual", but is "{form}".')
        if form == "linear" and max(axes.stride) > 1:
            raise UnsupportedConvolution(
                f"The linear form with stride {axes.stride} would need one t for every pixel phase."
                " Pass `stride=1`: a stride only drops outputs, so that scaling is valid for it."
            )
        symbols = symbol(K, geometry, _grid(axes))
        symbols = _blocks(symbols if form == "linear" else symbols.conj().swapaxes(-1, -2))
        half, multiplicity = _one_of_each_pair(symbols.shape[:-2])
        return cls(symbols[half], multiplicity, cost)

    def objective(self, t: Float[np.ndarray, " n"]) -> float:
        r"""$\sum_i c_i t_i$."""
        return float(self.cost @ t)

    def lower(self, dual: Complex[np.ndarray, "F n r"]) -> float:
        r"""Value of the dual at any factors $Y_\omega$, divided down first if they exceed the constraint."""
        value = self.multiplicity @ (abs(self.symbols @ dual) ** 2).sum((-2, -1))
        return float(value) / _excess(self.multiplicity @ (abs(dual) ** 2).sum(-1), self.cost)


Problem = MinTrace | MaxVolume | Nearest | ResidualLMI | ConvolutionMinTrace


def _excess(used: Float[np.ndarray, " n"], allowed: Float[np.ndarray, " n"]) -> float:
    return max(1.0, float(np.max(used / allowed)))


def _set(problem: Any, **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        array.flags.writeable = False
        object.__setattr__(problem, name, array)


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
    shape = tuple(np.shape(value))
    if len(shape) != 2 or 0 in shape:
        raise InvalidWeight(f"`{name}` must be a matrix with at least one entry, but has the shape {shape}.")
    return _array(name, value, shape, InvalidWeight)


def _kernel(value: Any) -> Float[np.ndarray, "out in *taps"]:
    shape = tuple(np.shape(value))
    if len(shape) < 3 or 0 in shape:
        raise InvalidWeight(
            f"`K` must be a nonempty kernel (out, in / groups, *taps), but has the shape {shape}."
        )
    return _array("K", value, shape, InvalidWeight)


def _positive(name: str, value: Any, n: int) -> Float[np.ndarray, " n"]:
    array = np.ones(n) if value is None else _array(name, value, (n,))
    if np.any(array <= 0):
        i = int(np.argmin(array))
        raise InvalidProblem(
            f"`{name}` must be positive, but entry {i} is {array[i]}. Use a small positive number."
        )
    return array


def _grid(axes: Layout) -> tuple[int, ...]:
    """Size of the circular convolution that this one is, or is a submatrix of: outputs + reach."""
    if axes.image_size is None or axes.output_size is None:
        raise UnsupportedConvolution(
            "The optimum over frequencies needs `image_size`. For all sizes use sdplip.convolution.aol."
        )
    if axes.circular:
        return axes.image_size
    sizes = zip(axes.output_size, axes.reach, axes.stride, strict=True)
    return tuple((outputs + reach // stride) * stride for outputs, reach, stride in sizes)


def _blocks(symbols: Complex[np.ndarray, "groups *grid m n"]) -> Complex[np.ndarray, "*grid gm gn"]:
    """One block-diagonal matrix a frequency from the matrices of the channel groups."""
    groups, *grid, m, n = symbols.shape
    blocks = np.zeros((*grid, groups, m, groups, n), dtype=symbols.dtype)
    for g, block in enumerate(symbols):
        blocks[..., g, :, g, :] = block
    return blocks.reshape(*grid, groups * m, groups * n)


def _one_of_each_pair(grid: tuple[int, ...]) -> tuple[tuple[np.ndarray, ...], Float[np.ndarray, " F"]]:
    """Index of one frequency of each conjugate pair of the grid, and how many frequencies each stands for."""
    flat = np.arange(int(np.prod(grid)))
    index = np.unravel_index(flat, grid)
    mirror = np.ravel_multi_index(tuple(-i % n for i, n in zip(index, grid, strict=True)), grid)
    keep = flat <= mirror
    return tuple(i[keep] for i in index), 1.0 + (flat < mirror)[keep]

r"""The optimisation problems of sdplip as plain data, each with its objective and its lower bound.

Weak duality lives here and not in the solvers: `objective(t)` and `lower(dual)` are the same short formulas
for everyone, so an interval [lower, objective] can be recomputed from the numbers alone. They are
floating-point values, not proofs. Every array is a read-only float64 (or complex128) copy.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sdplip.errors import InvalidProblem
from sdplip.shapes import short
from sdplip.solvers._arrays import array_of, excess, freeze, positive, weight_of
from sdplip.solvers.convolution_problem import ConvolutionMinTrace


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

    __repr__ = short

    def __post_init__(self):
        freeze(self, W=weight_of(self.W))
        freeze(self, cost=positive("cost", self.cost, self.W.shape[-1]))

    def objective(self, t: Float[np.ndarray, " n"]) -> float:
        r"""$\sum_i c_i t_i$."""
        return float(self.cost @ t)

    def lower(self, dual: Float[np.ndarray, "n r"]) -> float:
        r"""$\lVert W Y \rVert_F^2$ for $X = Y Y^\top$ with rows $\lVert y_i\rVert^2 \le c_i$.

        A Y that exceeds the constraint is first divided down to it, so any Y gives a bound.
        """
        return float(np.sum((self.W @ dual) ** 2)) / excess((dual * dual).sum(-1), self.cost)


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

    __repr__ = short

    def __post_init__(self):
        freeze(self, W=weight_of(self.W))

    def objective(self, t: Float[np.ndarray, " n"]) -> float:
        r"""$\sum_i \log t_i$ over the nonzero columns."""
        return float(np.log(t[self.W.any(0)]).sum())

    def lower(self, dual: Float[np.ndarray, "m r"]) -> float:
        r"""$n - \mathrm{tr} Y + \sum_i \log(w_i^\top Y w_i)$ for a symmetric positive semidefinite Y, or $Y = F F^\top$.

        A dual point with fewer columns than rows is taken for a factor F.
        """
        W = self.W[:, self.W.any(0)]
        thin = dual.shape[1] < dual.shape[0]
        forms = ((dual.T @ W) ** 2).sum(0) if thin else (W * (dual @ W)).sum(0)
        trace = np.sum(dual * dual) if thin else np.trace(dual)
        return float(W.shape[1] - trace + np.log(forms).sum()) if np.all(forms > 0) else -np.inf


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

    __repr__ = short

    def __post_init__(self):
        freeze(self, W=weight_of(self.W))
        n = self.W.shape[-1]
        freeze(self, target=array_of("target", self.target, (n,)), weight=positive("weight", self.weight, n))

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

    __repr__ = short

    def __post_init__(self):
        freeze(self, H=weight_of(self.H, "H"), W=weight_of(self.W))
        if self.H.shape[1] != self.W.shape[0]:
            raise InvalidProblem(
                f"`H` has {self.H.shape[1]} columns but `W` has {self.W.shape[0]} rows:"
                " both must be the length of x in H x + G sigma(W^T x + b)."
            )
        freeze(self, G=array_of("G", self.G, (self.H.shape[0], self.W.shape[1])) * self.W.any(0))
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


Problem = MinTrace | MaxVolume | Nearest | ResidualLMI | ConvolutionMinTrace
"""What `solve` takes."""

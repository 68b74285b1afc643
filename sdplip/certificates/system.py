r"""A network as one system of increments: $y = A x + B v$, $f = C x + D v$, with $v$ the outputs of what is not linear in it.

For two inputs, $x, v, y, f$ are the differences of input, outputs of nonlinear neurons, their arguments, and output. Neurons of a
single slope are linear and leave the system, so that no multiplier is spent on them: always-on neurons, the identity beside a
residual branch, and the sum of each group of GroupSort, which sorting preserves. What is left obeys one inequality a multiplier:

    neuron of slopes in [alpha, beta]   (v - alpha y)(v - beta y) <= 0
    group of g sorted neurons           sum_k w_k (v_k^2 - y_k^2) <= 0,   w_k = 1 / (k (k + 1)),   k = 1 .. g - 1

where $y_k = h_k^\top u$ of the group's inputs u with Helmert's vectors $h_k = (1, .., 1, -k, 0, ..)$ of norm $\sqrt{k (k + 1)}$:
sorting is 1-Lipschitz and preserves the sum, hence does not lengthen the part orthogonal to $1$. Pauli et al. (ICLR 2024) use
the multipliers $\lambda I + \mu 1 1^\top$; here the sum is substituted, which is never looser.

Rows are held as centre and entrywise error bound, because the linear parts are products of weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from sdplip.certificates.rounding import GENEROUS, TINY, gamma
from sdplip.certificates.validate import as_weight
from sdplip.errors import InvalidWeight

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Map:
    r"""$x \mapsto W^* x + b^*$ for any $|W^* - W| \le$ `error` $|W|$, entry by entry, and $b^*$ = b where `error` is 0."""

    W: Matrix
    b: Vector | None = None
    error: float = 0.0


@dataclass(frozen=True, eq=False)
class Slope:
    r"""Elementwise functions, difference quotients in $[\alpha_i, \beta_i]$; `kind` names the function, "" is unknown."""

    alpha: Vector
    beta: Vector
    kind: str = ""


@dataclass(frozen=True, eq=False)
class Sort:
    """Sorts the entries `groups[k]` in ascending order, for each row k; no entry stands twice, the others pass."""

    groups: Int[np.ndarray, "count size"]


@dataclass(frozen=True, eq=False)
class Skip:
    """$x \\mapsto x + f(x)$ with `branch` the layers of $f$."""

    branch: "tuple[Map | Slope | Sort | Skip, ...]"


Layers = Sequence[Map | Slope | Sort | Skip]


@dataclass(frozen=True, eq=False)
class System:
    """Increments of a network; the columns of `y` and `out` are the inputs, then the nonlinear outputs in order.

    Attributes:
        inputs: length of x.
        y, y_error: arguments of the nonlinear variables; row i uses earlier columns only.
        out, out_error: the output.
        alpha, beta: slopes of each variable, -1 and 1 within a sorted group.
        group: number of the multiplier of each variable.
        weight: its $w_k$, with a relative error of at most 2 roundings; 1 of a neuron.
        depth: number of the activation layer, from 1.
    """

    inputs: int
    y: Matrix
    y_error: Matrix
    out: Matrix
    out_error: Matrix
    alpha: Vector
    beta: Vector
    group: Int[np.ndarray, " n"]
    weight: Vector
    depth: Int[np.ndarray, " n"]

    @property
    def order(self) -> int:
        """Number of nonlinear variables."""
        return len(self.y)

    @property
    def multipliers(self) -> int:
        """Number of multipliers."""
        return int(self.group.max()) + 1 if len(self.group) else 0


def expand(layers: Layers, inputs: int) -> System:
    """The system of `layers` on `inputs` numbers.

    Raises:
        InvalidWeight: widths that do not fit, numbers that are not finite, groups that are no partition.
    """
    builder = _Builder(inputs, variables(layers))
    eye = np.eye(inputs, inputs + builder.count)
    out, error = builder.through(layers, eye, np.zeros_like(eye))
    n = builder.count
    return System(
        inputs,
        y=np.array(builder.y).reshape(n, inputs + n),
        y_error=np.array(builder.y_error).reshape(n, inputs + n),
        out=out,
        out_error=error,
        alpha=np.array(builder.alpha, np.float64),
        beta=np.array(builder.beta, np.float64),
        group=np.array(builder.group, int),
        weight=np.array(builder.weight, np.float64),
        depth=np.array(builder.depth, int),
    )


def linear_slopes(layer: Slope) -> np.ndarray:
    """Which neurons are linear, with one slope."""
    return np.asarray(layer.alpha == layer.beta)


def variables(layers: Layers) -> int:
    """Number of nonlinear variables of the system of `layers`."""
    count = 0
    for layer in layers:
        if isinstance(layer, Slope):
            count += int((~linear_slopes(layer)).sum())
        elif isinstance(layer, Sort):
            count += len(layer.groups) * (layer.groups.shape[1] - 1) if layer.groups.size else 0
        elif isinstance(layer, Skip):
            count += variables(layer.branch)
    return count


@dataclass(eq=False)
class _Builder:
    inputs: int
    count: int
    y: list[Vector] = field(default_factory=list)
    y_error: list[Vector] = field(default_factory=list)
    alpha: list[float] = field(default_factory=list)
    beta: list[float] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    layer: int = 0

    def through(self, layers: Layers, S: Matrix, E: Matrix) -> tuple[Matrix, Matrix]:
        """Rows and their errors after `layers`, from those in front."""
        for layer in layers:
            if isinstance(layer, Map):
                S, E = product_rows(as_weight(layer.W, zero=True), S, E, layer.error)
            elif isinstance(layer, Slope):
                S, E = self._slope(layer, S, E)
            elif isinstance(layer, Sort):
                S, E = self._sort(layer, S, E)
            else:
                T, F = self.through(layer.branch, S, E)
                if T.shape != S.shape:
                    raise InvalidWeight(
                        f"A residual branch takes {len(S)} numbers and gives {len(T)}, so it cannot be added to its input."
                    )
                S, E = S + T, (E + F + gamma(1) * (abs(S) + abs(T))) * GENEROUS
        return S, E

    def _slope(self, layer: Slope, S: Matrix, E: Matrix) -> tuple[Matrix, Matrix]:
        alpha, beta = (np.asarray(v, np.float64) for v in (layer.alpha, layer.beta))
        if not (
            alpha.shape == beta.shape == (len(S),) and np.isfinite(alpha).all() and np.isfinite(beta).all()
        ):
            raise InvalidWeight(
                f"The slopes of a layer of {len(S)} neurons must be {len(S)} finite numbers each."
            )
        if (alpha > beta).any():
            raise InvalidWeight("A lower slope exceeds the upper slope of its neuron. Exchange them.")
        linear = linear_slopes(layer)
        T = np.where(linear, alpha, 0.0)[:, None] * S
        F = np.where(linear, abs(alpha), 0.0)[:, None] * E + gamma(1) * abs(T) + TINY * (T != 0)
        self.layer += bool((~linear).any())
        for i in np.flatnonzero(~linear):
            T[i, self._new(S[i], E[i], alpha[i], beta[i], 1.0, fresh=True)] = 1.0
            F[i] = 0.0
        return T, F * GENEROUS

    def _sort(self, layer: Sort, S: Matrix, E: Matrix) -> tuple[Matrix, Matrix]:
        groups = np.asarray(layer.groups)
        if not groups.size:
            return S, E
        if groups.min() < 0 or groups.max() >= len(S) or len(np.unique(groups)) != groups.size:
            raise InvalidWeight(
                f"Groups of sorted neurons must hold different numbers from 0 to {len(S) - 1}."
            )
        size = groups.shape[1]
        T, F = S.copy(), E.copy()
        self.layer += size > 1
        for members in groups:
            mean = np.broadcast_to(S[members].sum(0) / size, (size, S.shape[1])).copy()
            error = np.broadcast_to(E[members].sum(0) / size, mean.shape).copy()
            error += gamma(size + 1) * abs(S[members]).sum(0) / size + TINY * S[members].any(0)
            for k in range(1, size):
                h = np.array([1.0] * k + [-float(k)])
                row = h @ S[members[: k + 1]]
                row_error = abs(h) @ E[members[: k + 1]] + gamma(k + 2) * (abs(h) @ abs(S[members[: k + 1]]))
                weight = 1.0 / (k * (k + 1))
                column = self._new(row, row_error * GENEROUS, -1.0, 1.0, weight, fresh=k == 1)
                mean[: k + 1, column] += (
                    h * weight
                )  # v = mean + sum_k h_k p_k / (k (k + 1)); each entry is set once
                error[: k + 1, column] += gamma(3) * abs(h) * weight
            T[members], F[members] = mean, error * GENEROUS
        return T, F

    def _new(
        self, row: Vector, error: Vector, alpha: float, beta: float, weight: float, *, fresh: bool
    ) -> int:
        number = (self.group[-1] + 1 if self.group else 0) if fresh else self.group[-1]
        self.y.append(row)
        self.y_error.append(error)
        self.alpha.append(alpha)
        self.beta.append(beta)
        self.weight.append(weight)
        self.group.append(number)
        self.depth.append(self.layer)
        return self.inputs + len(self.y) - 1


def product_rows(W: Matrix, S: Matrix, E: Matrix, relative: float = 0.0) -> tuple[Matrix, Matrix]:
    """$W S$ and its error where S has the error E, and entries of W the relative error `relative`."""
    if W.shape[1] != len(S):
        raise InvalidWeight(
            f"A weight of shape {W.shape} takes {W.shape[1]} numbers, but is given {len(S)}. Weights are (out, in), first"
            " layer first; transpose those that are (in, out)."
        )
    absolute = abs(W)
    n = W.shape[1]
    lost = 4 * n * TINY * (1 + float(absolute.max()))
    inherited = E + gamma(n + 2) * abs(S)
    if relative:
        inherited += relative * (abs(S) + E)
    return W @ S, (absolute @ inherited + lost) * GENEROUS

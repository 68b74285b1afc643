r"""Duals of the scaling problems in low-rank factors $X = V V^\top$: what `_lowrank.ascent` climbs.

Each is concave in X. With r columns, $r (r + 1) / 2 > n$, a generic one has no local maximum but the global one (Burer and
Monteiro 2003; Boumal, Voroninski, Bandeira 2016): its optimum has an X of that rank, since only n numbers of X (its diagonal, or
the forms $w_i^\top X w_i$) are asked for. Here W has columns of lengths near 1, and `Rows` may be of NumPy or of torch.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float

from sdplip.condition import Array
from sdplip.convolution.kernels import namespace

Rows = Float[Array, "n r"]
Vector = Float[Array, " n"]
FEW = 0.03
"""Singular values of V below so much of the largest belong to columns that the optimum does not need."""

Apply = Callable[[Float[Array, "n k"]], Float[Array, "n k"]]


@dataclass(frozen=True, eq=False)
class Height:
    """A point with its product with the data, `value` of the dual, half the gradient of -value, and the `t` that it asks for."""

    V: Rows
    image: Rows
    value: float
    gradient: Rows
    t: Vector
    size: float

    @property
    def slope(self) -> float:
        """The gradient, relative to what it is a difference of."""
        return norm(self.gradient) / (self.size or 1.0)


class AbstractLandscape(abc.ABC):
    """A dual to be climbed."""

    @abc.abstractmethod
    def at(self, V: Rows) -> Height:
        """The height of a point of the domain."""

    @abc.abstractmethod
    def gain(self, a: Height, b: Height) -> float:
        """`b.value - a.value`, accurate relative to itself and not only to the values."""

    @abc.abstractmethod
    def scale(self, at: Height) -> Float[Array, "n 1"] | float:
        """About the inverse of the Hessian: its diagonal, or a number."""

    @abc.abstractmethod
    def kernel(self, at: Height) -> Rows:
        r"""What spans the eigenvectors of $T^{-1/2} W^\top W T^{-1/2}$ with eigenvalue 1, at a maximum."""

    def wider(self, at: Height, x: Vector) -> Rows:
        r"""V with a column more: the way up from a saddle, where x is an eigenvector of $T^{-1/2} G T^{-1/2}$ above 1."""
        column = x / at.t**0.5
        return _beside(at.V, column)

    def thinner(self, V: Rows) -> Rows | None:
        """V rotated, without the columns that hardly matter; None if that would save less than a tenth of them."""
        values, Q = namespace(V).linalg.eigh(V.mT @ V)
        keep = values > FEW**2 * values[-1]
        return None if int(keep.sum()) > 0.9 * V.shape[1] else V @ Q[:, keep]

    def domain(self, V: Rows) -> Rows:
        """The point of the domain near V."""
        return V

    def tangent(self, V: Rows, d: Rows) -> Rows:  # noqa: ARG002
        """The part of a direction that stays in the domain."""
        return d


@dataclass(frozen=True, eq=False)
class Spheres(AbstractLandscape):
    r"""Least trace: maximise $\langle V, G V\rangle$ over unit rows. Then $t_i = \lVert (GV)_i\rVert$."""

    apply: Apply
    floor: Vector  # the diagonal of G: t is not below it at a maximum

    def at(self, V: Rows) -> Height:
        image = self.apply(V)
        forms = inner(V, image)
        t = namespace(image).maximum(lengths(image), self.floor)
        return Height(V, image, float(forms.sum()), forms * V - image, t, norm(image))

    def gain(self, a: Height, b: Height) -> float:
        return float(((b.V - a.V) * (b.image + a.image)).sum())

    def scale(self, at: Height) -> Float[Array, "n 1"]:
        forms = inner(at.V, at.image)
        return 1 / namespace(forms).maximum(forms, self.floor[:, None])

    def kernel(self, at: Height) -> Rows:
        return at.V * at.t[:, None] ** 0.5

    def domain(self, V: Rows) -> Rows:
        return V / lengths(V)[:, None]

    def tangent(self, V: Rows, d: Rows) -> Rows:
        return d - inner(V, d) * V


@dataclass(frozen=True, eq=False)
class Distance(AbstractLandscape):
    r"""Least repair: maximise $\langle V, G V\rangle - \hat t^\top x - \sum_i x_i^2 / (4 p_i)$, $x_i = \lVert v_i\rVert^2$, over all V.

    Then $t_i = \hat t_i + x_i / (2 p_i)$.
    """

    apply: Apply
    floor: Vector
    target: Vector
    weight: Vector

    def at(self, V: Rows) -> Height:
        image, x = self.apply(V), (V * V).sum(-1)
        t = self.target + x / (2 * self.weight)
        value = float((V * image).sum() - (self.target * x + x * x / (4 * self.weight)).sum())
        t_above = namespace(t).maximum(t, self.floor)
        return Height(V, image, value, t[:, None] * V - image, t_above, norm(image))

    def gain(self, a: Height, b: Height) -> float:
        x, change = (a.V * a.V).sum(-1), ((b.V - a.V) * (b.V + a.V)).sum(-1)
        pulls = self.target * change + change * (2 * x + change) / (4 * self.weight)
        return float(((b.V - a.V) * (b.image + a.image)).sum() - pulls.sum())

    def scale(self, at: Height) -> Float[Array, "n 1"]:
        return 1 / (at.t + (at.V * at.V).sum(-1) / self.weight)[:, None]

    def kernel(self, at: Height) -> Rows:
        return at.V * at.t[:, None] ** 0.5


@dataclass(frozen=True, eq=False)
class Box(AbstractLandscape):
    r"""Least product: maximise $n - \lVert V \rVert_F^2 + \sum_i \log y_i$, $y_i = \lVert V^\top w_i\rVert^2$, over V with a row a row of W.

    At a maximum $V = W \mathrm{diag}(1/y) W^\top V$, and $t = y$.
    """

    W: Float[Array, "m n"]

    def at(self, V: Rows) -> Height:
        image = self.W.mT @ V
        y = (image * image).sum(-1)
        square = float((V * V).sum())
        value = len(y) - square + float(namespace(y).log(y).sum())
        return Height(V, image, value, V - self.W @ (image / y[:, None]), y, square**0.5)

    def gain(self, a: Height, b: Height) -> float:
        change = ((b.image - a.image) * (b.image + a.image)).sum(-1)
        logs = namespace(change).log1p(change / a.t)
        return float(logs.sum() - ((b.V - a.V) * (b.V + a.V)).sum())

    def scale(self, at: Height) -> float:  # noqa: ARG002
        return 1.0

    def kernel(self, at: Height) -> Rows:
        return at.image / at.t[:, None] ** 0.5

    def wider(self, at: Height, x: Vector) -> Rows:
        return _beside(at.V, self.W @ (x / at.t**0.5))


def inner(U: Rows, V: Rows) -> Float[Array, "n 1"]:
    """Of the rows."""
    return (U * V).sum(-1)[:, None]


def lengths(V: Rows) -> Float[Array, " n"]:
    """Of the rows."""
    return (V * V).sum(-1) ** 0.5


def norm(V: Rows) -> float:
    """Of all entries."""
    return float((V * V).sum()) ** 0.5


def _beside(V: Rows, column: Vector) -> Rows:
    """V and a column of a tenth of the length of all of its columns together."""
    column = column[:, None] * (0.1 * norm(V) / norm(column[:, None]))
    return namespace(V).concatenate((V, column), 1)

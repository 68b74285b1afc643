r"""Certified radii: how far an image may move before another class can win. Lengths are l2, images live in [0, 1].

With $|(f_y - f_j)(x') - (f_y - f_j)(x)| \le L_{yj} \lVert x' - x \rVert_2$ class $y$ wins at every $x'$ nearer to $x$ than
$\min_j (f_y - f_j)(x) / L_{yj}$. Three kinds of constants: those of pairs of classes for a linear head
(`sdplip.nn.pairwise_lipschitz`), $\sqrt 2 L$ for any $L$-Lipschitz network, $2 L$ where only each logit by itself is
$L$-Lipschitz.

A network of one logit $f$ decides by its sign, class 1 where $f > 0$ and class 0 else: it is read as the two logits $0, f$, and its
constant is that of $f$ itself.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from sdplip.arithmetic.rounding import up
from sdplip.errors import InvalidProblem
from sdplip.nn.bounds.pairwise import PairwiseBound
from sdplip.nn.bounds.tree import Bound, product_above
from sdplip.nn.given import floats

Logits = Float[np.ndarray, "batch classes"] | Float[Tensor, "batch classes"]
Constants = PairwiseBound | Float[np.ndarray, "classes classes"] | float


@dataclass(frozen=True, eq=False)
class MarginError:
    r"""What rounding takes from the margins $f_y - f_j$ of the predicted class: $\mathrm{constant} + \mathrm{slope} \cdot r$
    for images up to $r$ away.

    Attributes:
        constant, slope: `(batch, classes)`, nonnegative.
        measured: `(batch, classes)`, of the evaluation at the image itself, where it is known better than `constant`.
    """

    constant: Float[np.ndarray, "batch classes"]
    slope: Float[np.ndarray, "batch classes"]
    measured: Float[np.ndarray, "batch classes"] | None = None

    def here(self) -> "MarginError":
        """Of the evaluation at the image itself: enough for the network of exact arithmetic."""
        constant = self.constant if self.measured is None else self.measured
        return MarginError(constant, np.zeros_like(self.slope))

    def here_and_around(self) -> "MarginError":
        """Of that evaluation and of one up to `r` away: what a statement about the computing network needs."""
        both = (
            2 * self.constant
            if self.measured is None
            else np.nextafter(self.measured + self.constant, np.inf)
        )
        return MarginError(both, self.slope)


def joint_constant(bound: Bound | float) -> float:
    r"""$\sqrt 2 L$: the constant of every margin of a network with bound $L$, because $\lVert e_i - e_j \rVert_2 = \sqrt 2$."""
    return product_above((float(bound), up(2**0.5)))


def separate_constant(bound: Bound | float) -> float:
    """$2 L$: the constant of every margin where each logit by itself has bound $L$ (rows of length 1, disjoint networks)."""
    return product_above((float(bound), 2.0))


def predictions(logits: Logits) -> Int[np.ndarray, " batch"]:
    """The class of the largest logit, the first one of several; of one logit its sign, 1 where it is positive."""
    return class_logits(logits).argmax(-1)


def margins(logits: Logits) -> Float[np.ndarray, "batch classes"]:
    """Predicted logit minus each logit, rounded down; infinity at the predicted class itself, 0 at ties, NaN stays."""
    s = class_logits(logits)
    y = s.argmax(-1)[:, None]
    with np.errstate(invalid="ignore"):
        difference = np.take_along_axis(s, y, -1) - s
    result = np.where(difference > 0, np.nextafter(difference, -np.inf), difference)
    np.put_along_axis(result, y, np.inf, -1)
    return result


def class_radii(
    logits: Logits,
    constants: Constants,
    *,
    lost: Float[np.ndarray, " batch"] | float = 0.0,
    above: bool = False,
) -> Float[np.ndarray, "batch classes"]:
    r"""$r_k = \min_{j \ne k} (s_k - s_j) / L_{kj}$ of every class k: where positive the certified radius of k, else how far k is away.

    Each column is 1-Lipschitz in the input of the network: every quotient is, because $L_{kj}$ bounds how fast its margin changes,
    and a minimum of 1-Lipschitz functions is one. At most one column is positive, and the largest is `certified_radius` or 0.

    Args:
        logits: as the network computed them; one logit f a sample gives the two columns $-f / L, f / L$.
        constants: of the margins, `(classes, classes)`, or one for all of them; of one logit its own.
        lost: by how much any margin may differ from its exact value, for all samples or one for each.
        above: round up, with `lost` added, in place of down, with `lost` taken away. A margin whose constant is 0 never changes,
            so its quotient is infinite; of logits that are not finite nothing is known, which is -inf below and inf above.

    Raises:
        InvalidProblem: shapes that do not fit, or constants or `lost` that are negative or NaN.
    """
    s = class_logits(logits)
    batch, classes = s.shape
    L = _matrix(constants, classes, single=_columns(logits) == 1)
    e = floats("lost", lost)
    if e.shape not in ((), (batch,)) or not (e >= 0).all():
        raise InvalidProblem(
            f"`lost` must be one number or {batch} of them, not negative or NaN, but has shape {e.shape}. Use proven bounds of the"
            " rounding."
        )
    e = np.broadcast_to(e, (batch,))[:, None]
    outward = np.inf if above else -np.inf
    result = np.empty_like(s)
    for k in range(classes):
        with np.errstate(invalid="ignore", over="ignore"):
            m = _outward(s[:, k : k + 1] - s, outward)
            m = np.where(e > 0, np.nextafter(m + e if above else m - e, outward), m)
        each = _divided(m, L[k], outward)
        each[:, k] = np.inf
        result[:, k] = each.min(-1)
    return np.where(np.isfinite(s).all(-1, keepdims=True), result, outward)


def certified_radius(
    logits: Logits, pairwise: Constants, *, error: MarginError | None = None
) -> Float[np.ndarray, " batch"]:
    r"""$\min_j (s_y - s_j) / L_{yj}$ of the predicted class $y$, rounded down: at every image strictly nearer $y$ is predicted.

    0 at ties, at logits that are not finite, and where `error` exceeds the margin. Infinite if no other class can ever win.
    Whether the prediction is right is for the caller to say.

    Args:
        logits: as the network computed them; of one logit f the radius is $|f| / L$.
        pairwise: constants of the margins, `(classes, classes)`, or one for all of them (`joint_constant`, `separate_constant`); of
            one logit its own, `lipschitz(model)`.
        error: what rounding takes away; None counts the logits as exact.

    Raises:
        InvalidProblem: shapes that do not fit, or constants that are negative or NaN.
    """
    s = class_logits(logits)
    batch, classes = s.shape
    L = _matrix(pairwise, classes, single=_columns(logits) == 1)
    y = s.argmax(-1)
    m, constants = margins(s), L[y]
    if error is not None:
        with np.errstate(invalid="ignore"):
            m = np.nextafter(m - error.constant, -np.inf)
        constants = np.nextafter(constants + error.slope, np.inf)
    each = np.where(m > 0, _divided(m, constants, -np.inf), 0.0)
    each[np.arange(batch), y] = np.inf
    radius = np.maximum(each.min(-1), 0.0)
    return np.where(np.isfinite(s).all(-1), radius, 0.0)


def class_logits(logits: Logits) -> Float[np.ndarray, "batch classes"]:
    """The same numbers in double precision, one a class: one logit f is read as the two 0, f.

    Raises:
        InvalidProblem: no matrix of real numbers.
    """
    s = floats("logits", logits)
    if s.ndim != 2 or not s.shape[1]:
        raise InvalidProblem(f"`logits` must have the shape (batch, classes), but have {s.shape}.")
    return np.concatenate([np.zeros_like(s), s], 1) if s.shape[1] == 1 else s


def _columns(logits: Logits) -> int:
    return floats("logits", logits).shape[1]


def _outward(x: Float[np.ndarray, "*n"], outward: float) -> Float[np.ndarray, "*n"]:
    """A difference that was rounded once, moved to the side that is asked for; 0 is exact."""
    return np.where(x == 0, x, np.nextafter(x, outward))


def _divided(
    m: Float[np.ndarray, "batch classes"], L: Float[np.ndarray, "... classes"], outward: float
) -> Float[np.ndarray, "batch classes"]:
    """m / L, rounded outward; where L is 0 the margin never changes, so it is infinite with the sign of m."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        each = np.where(L > 0, _outward(m / L, outward), np.copysign(np.inf, m))
    return np.where(m == 0, 0.0, each)


def _matrix(constants: Constants, classes: int, *, single: bool) -> Float[np.ndarray, "classes classes"]:
    if isinstance(constants, PairwiseBound):
        constants = constants.network.value if single else constants.values
    L = floats("pairwise", constants.value if isinstance(constants, Bound) else constants)
    if single and L.shape != ():
        raise InvalidProblem(
            f"One logit decides by its sign, and its constant is one number, but `pairwise` has the shape {L.shape}. Use"
            " `lipschitz(model).value`."
        )
    if L.shape not in ((), (classes, classes)):
        raise InvalidProblem(
            f"`pairwise` must be one number or have the shape ({classes}, {classes}), but has {L.shape}."
        )
    if not (L >= 0).all():
        raise InvalidProblem(
            "`pairwise` holds a negative constant or NaN. Use constants from `pairwise_lipschitz`."
        )
    return np.broadcast_to(L, (classes, classes))

r"""Certified radii: how far an image may move before another class can win. Lengths are l2, images live in [0, 1].

With $|(f_y - f_j)(x') - (f_y - f_j)(x)| \le L_{yj} \lVert x' - x \rVert_2$ class $y$ wins at every $x'$ nearer to $x$ than
$\min_j (f_y - f_j)(x) / L_{yj}$. Three kinds of constants: those of pairs of classes for a linear head
(`sdplip.nn.pairwise_lipschitz`), $\sqrt 2 L$ for any $L$-Lipschitz network, $2 L$ where only each logit by itself is
$L$-Lipschitz.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sdplip.arithmetic.rounding import up
from sdplip.errors import InvalidProblem
from sdplip.nn.bounds.pairwise import PairwiseBound
from sdplip.nn.bounds.tree import Bound, product_above

Logits = Float[np.ndarray, "batch classes"] | Float[Tensor, "batch classes"]
Constants = PairwiseBound | Float[np.ndarray, "classes classes"] | float


@dataclass(frozen=True, eq=False)
class MarginError:
    r"""What rounding takes from the margins $f_y - f_j$ of the predicted class: $\mathrm{constant} + \mathrm{slope} \cdot r$
    for images up to $r$ away.

    Attributes:
        constant, slope: `(batch, classes)`, nonnegative.
    """

    constant: Float[np.ndarray, "batch classes"]
    slope: Float[np.ndarray, "batch classes"]

    def here(self) -> "MarginError":
        """Of the evaluation at the image itself: enough for the network of exact arithmetic."""
        return MarginError(self.constant, np.zeros_like(self.slope))

    def here_and_around(self) -> "MarginError":
        """Of that evaluation and of one up to `r` away: what a statement about the computing network needs."""
        return MarginError(2 * self.constant, self.slope)


def joint_constant(bound: Bound | float) -> float:
    r"""$\sqrt 2 L$: the constant of every margin of a network with bound $L$, because $\lVert e_i - e_j \rVert_2 = \sqrt 2$."""
    return product_above((float(bound), up(2**0.5)))


def separate_constant(bound: Bound | float) -> float:
    """$2 L$: the constant of every margin where each logit by itself has bound $L$ (rows of length 1, disjoint networks)."""
    return product_above((float(bound), 2.0))


def predictions(logits: Logits) -> Int[np.ndarray, " batch"]:
    """The class of the largest logit, the first one of several."""
    return _double(logits).argmax(-1)


def margins(logits: Logits) -> Float[np.ndarray, "batch classes"]:
    """Predicted logit minus each logit, rounded down; infinity at the predicted class itself, 0 at ties, NaN stays."""
    s = _double(logits)
    y = s.argmax(-1)[:, None]
    with np.errstate(invalid="ignore"):
        difference = np.take_along_axis(s, y, -1) - s
    result = np.where(difference > 0, np.nextafter(difference, -np.inf), difference)
    np.put_along_axis(result, y, np.inf, -1)
    return result


def certified_radius(
    logits: Logits, pairwise: Constants, *, error: MarginError | None = None
) -> Float[np.ndarray, " batch"]:
    r"""$\min_j (s_y - s_j) / L_{yj}$ of the predicted class $y$, rounded down: at every image strictly nearer $y$ is predicted.

    0 at ties, at logits that are not finite, and where `error` exceeds the margin. Infinite if no other class can ever win.
    Whether the prediction is right is for the caller to say.

    Args:
        logits: as the network computed them.
        pairwise: constants of the margins, `(classes, classes)`, or one for all of them (`joint_constant`, `separate_constant`).
        error: what rounding takes away; None counts the logits as exact.

    Raises:
        InvalidProblem: shapes that do not fit, or constants that are negative or NaN.
    """
    s = _double(logits)
    batch, classes = s.shape
    L = _matrix(pairwise, classes)
    y = s.argmax(-1)
    m, constants = margins(s), L[y]
    if error is not None:
        with np.errstate(invalid="ignore"):
            m = np.nextafter(m - error.constant, -np.inf)
        constants = np.nextafter(constants + error.slope, np.inf)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        each = np.nextafter(m / constants, -np.inf)
    each = np.where(constants > 0, each, np.inf)  # this margin never changes
    each = np.where(m > 0, each, 0.0)
    each[np.arange(batch), y] = np.inf
    radius = np.maximum(each.min(-1), 0.0)
    return np.where(np.isfinite(s).all(-1), radius, 0.0)


def _double(logits: Logits) -> Float[np.ndarray, "batch classes"]:
    """The same numbers in double precision."""
    s = logits.detach().to("cpu", torch.float64).numpy() if isinstance(logits, Tensor) else logits
    s = np.asarray(s, dtype=np.float64)
    if s.ndim != 2 or not s.shape[1]:
        raise InvalidProblem(f"`logits` must have the shape (batch, classes), but have {s.shape}.")
    return s


def _matrix(constants: Constants, classes: int) -> Float[np.ndarray, "classes classes"]:
    values = constants.values if isinstance(constants, PairwiseBound) else constants
    L = np.asarray(values, dtype=np.float64)
    if L.shape not in ((), (classes, classes)):
        raise InvalidProblem(
            f"`pairwise` must be one number or have the shape ({classes}, {classes}), but has {L.shape}."
        )
    if not (L >= 0).all():
        raise InvalidProblem(
            "`pairwise` holds a negative constant or NaN. Use constants from `pairwise_lipschitz`."
        )
    return np.broadcast_to(L, (classes, classes))

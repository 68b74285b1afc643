r"""Values of implicit layers: boxes that are proven to hold a solution of $v = \sigma(W v + x)$.

Let z be near a solution, $y = W z + x$, $r = \sigma(y) - z$. A solution is z + d with $d = r + D W d$, where the diagonal D holds difference
quotients of $\sigma$ between y and y + W d. With any matrix C and any diagonal $D_0$ this is

    $d = C r + (I - C (I - D_0 W)) d + C (D - D_0) W d.$

If a box $\lvert d \rvert \le \rho$, $\rho > 0$, is mapped into its inside by the right side, whatever the D of that box, it holds a solution
(Brouwer; Krawczyk 1969), for every x of an enclosure at once if r and D are those of it. That there is no other one is not proven here: the
rule `equilibrium` does that, in the proof of the constant.
"""

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.arithmetic.matrix import Enclosure, enclose
from sdplip.arithmetic.rounding import GENEROUS, TINY
from sdplip.network import Equilibrium
from sdplip.shapes import Float

WIDER = 2.0, 1e3, 1e6
"""Times the first estimate of the error: boxes that are tried."""

SMALL, LEAST = 2.0**-500, 2.0**-400
"""Entries of C below count as 0, and every box is at least so wide: nothing that matters underflows."""

Matrix = Float[np.ndarray, "n n"]
Vector = Float[np.ndarray, " n"]


@np.errstate(all="ignore")
def solutions(op: Equilibrium, x: Enclosure) -> Enclosure:
    """A box around one solution for each row; of infinite radius where none is proven."""
    z = np.nan_to_num(op.value(x.mid))
    rad = np.array([_radius(op, z[k], x[k]) for k in range(len(z))]).reshape(z.shape)
    return enclose(z, rad)


def _radius(op: Equilibrium, z: Vector, x: Enclosure) -> Vector:
    function, W = FUNCTIONS[op.name], Enclosure.exact(op.W)
    size, y = W.magnitude(), W @ z + x
    low, high = function.values(*y.ends(), **op.parameters)
    r = np.maximum(abs(high - z), abs(low - z)) * GENEROUS + TINY
    none = np.full(len(z), np.inf)
    alpha, beta = function.derivatives(*y.ends(), **op.parameters)
    D = np.broadcast_to(np.clip(alpha / 2 + beta / 2, 0.0, 1.0), z.shape)
    A = np.eye(len(z)) - D[:, None] * op.W
    try:
        C = np.linalg.inv(A)
    except np.linalg.LinAlgError:
        return none
    if not np.isfinite(C).all():
        return none
    C = np.where(abs(C) < SMALL, 0.0, C)
    left = abs(C) @ r
    rest = (Enclosure.exact(np.eye(len(z))) - Enclosure.exact(C) @ _inner(D, W)).magnitude()
    for factor in WIDER:
        rho = factor * (left + left.max() * 1e-3) + LEAST
        ahead = enclose(y.mid, y.radius() + (size @ rho) * GENEROUS + TINY)
        alpha, beta = function.derivatives(*ahead.ends(), **op.parameters)
        off = np.maximum(abs(beta - D), abs(alpha - D)) * GENEROUS
        image = left + abs(C) @ (off * (size @ rho)) + rest @ rho
        if (image * GENEROUS + LEAST / 2 < rho).all():
            return rho
    return none


def _inner(D: Vector, W: Enclosure) -> Enclosure:
    """$I - D W$."""
    return (W * -D[:, None]).plus_diagonal(1.0)

r"""Values of a network at given inputs with proven errors: what it computes in exact arithmetic lies within `mid` $\pm$ `rad`.

Rule of a linear map with sums of k terms: with $|x - m| \le r$,
$|A x + b - fl(A m + b)| \le |A| r + \gamma_{k+4} (|A| (|m| + r) + |b|) + \tau$, where $\tau$ bounds what underflows: every
product and every input that counts as zero loses at most `TINY` times the other factor.
"""

from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.errors import NotProvable
from sdplip.network import (
    AbstractLinear,
    Activation,
    Concatenate,
    Diagonal,
    Gather,
    Maximum,
    Network,
    Norms,
    Operator,
    Sort,
    Sum,
)
from sdplip.shapes import Float

Points = Float[np.ndarray, "batch n"]


@dataclass(frozen=True, eq=False)
class Near:
    """Numbers within `mid` $\\pm$ `rad`, entry by entry; `rad` infinite where nothing is known."""

    mid: Points
    rad: Points

    @property
    def low(self) -> Points:
        """Lower ends, rounded down."""
        return np.nextafter(self.mid - self.rad, -np.inf)

    @property
    def high(self) -> Points:
        """Upper ends, rounded up."""
        return np.nextafter(self.mid + self.rad, np.inf)

    @staticmethod
    def within(low: Points, high: Points) -> "Near":
        """From ends."""
        mid = low / 2 + high / 2
        rad = np.nextafter(np.maximum(high - mid, mid - low), np.inf)
        return Near(mid, rad + 4 * TINY)

    def safe(self) -> "Near":
        """What is not finite is not known."""
        bad = ~(np.isfinite(self.mid) & np.isfinite(self.rad))
        return Near(np.where(bad, 0.0, self.mid), np.where(bad, np.inf, self.rad)) if bad.any() else self


@np.errstate(over="ignore", invalid="ignore", under="ignore")
def evaluate(network: Network, x: Points) -> list[Near]:
    """All values of the network at the inputs `x`, exact doubles, in order.

    Raises:
        NotProvable: an operator whose values are not proven here.
    """
    found = [Near(np.asarray(x, np.float64), np.zeros(np.shape(x)))]
    for node in network.nodes:
        found.append(step(node.op, [found[i] for i in node.inputs], node.title).safe())
    return found


def step(op: Operator, values: list[Near], title: str) -> Near:
    """The value of one node."""
    z = values[0]
    if isinstance(op, Sum):
        mid = sum(sign * value.mid for sign, value in zip(op.signs, values, strict=True))
        size = sum(abs(value.mid) + value.rad for value in values)
        rad = sum(value.rad for value in values) + gamma(len(values)) * size
        return Near(mid, rad * GENEROUS + TINY * len(values))  # type: ignore[arg-type]
    if isinstance(op, Concatenate):
        return Near(np.concatenate([v.mid for v in values], -1), np.concatenate([v.rad for v in values], -1))
    if isinstance(op, Gather):
        return Near(op.apply(z.mid), op.apply(z.rad))
    if isinstance(op, AbstractLinear):
        return linear(op, z)
    if isinstance(op, Activation):
        if not op.name:
            raise NotProvable(
                "Only the slopes of an activation are known, so its values are not. Name the activation."
            )
        return Near.within(*FUNCTIONS[op.name].values(z.low, z.high, **op.parameters))
    if isinstance(op, Sort):
        return Near.within(op.value(z.low), op.value(z.high))
    if isinstance(op, Maximum):
        return Near.within(op.value(z.low), op.value(z.high))
    if isinstance(op, Norms):
        mid, n = op.value(z.mid), op.groups.shape[1]
        rad = np.sqrt((z.rad[..., op.groups] ** 2).sum(-1)) * (1 + gamma(n + 4))
        return Near(mid, (rad + gamma(n + 6) * mid) * GENEROUS + 2 * n * 2.0**-500)
    raise NotProvable(
        f"The values of {title} are not proven: only its Lipschitz constant is. Certify in front of it."
    )


def linear(op: AbstractLinear, z: Near) -> Near:
    """The value of a linear map."""
    absolute, mid = op.absolute(), op.apply(z.mid) + op.shift()
    relative = gamma(op.terms + 6) + op.error * (1 + gamma(op.terms + 6))
    size = absolute.apply(abs(z.mid) + z.rad) * (1 + gamma(op.terms + 2)) + abs(op.shift())
    reach = absolute.apply(z.rad) * (1 + gamma(op.terms + 2)) * (1 + op.error)
    lost = TINY * (
        2 * op.terms + 4 + absolute.apply(np.ones(op.inputs)) + (abs(z.mid) + z.rad).sum(-1, keepdims=True)
    )
    rad = (reach + relative * size + lost + UNIT * abs(mid)) * GENEROUS
    if isinstance(op, Diagonal) and op.shift_error is not None:
        rad = rad + op.shift_error * GENEROUS
    return Near(mid, rad)

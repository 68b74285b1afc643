r"""Values of a network at given inputs with proven errors: what it computes in exact arithmetic lies within `mid` $\pm$ `rad`.

Values are enclosures (`arithmetic.matrix`) with an input a row; linear maps are those of `kernel.linear`, functions those of
`arithmetic.functions` on the ends.
"""

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.arithmetic.matrix import Enclosure, enclose, lengths
from sdplip.arithmetic.rounding import GENEROUS, TINY, gamma
from sdplip.errors import NotProvable
from sdplip.kernel.implicit import solutions
from sdplip.kernel.linear import added, through
from sdplip.network import (
    AbstractLinear,
    Activation,
    Concatenate,
    Diagonal,
    Equilibrium,
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


@np.errstate(over="ignore", invalid="ignore", under="ignore")
def evaluate(network: Network, x: Points, *, unique: bool = False) -> list[Enclosure]:
    """All values of the network at the inputs `x`, exact doubles, in order; infinite radii where nothing is known.

    Args:
        unique: whether implicit layers have been proven to have one solution; without that their values are not proven.

    Raises:
        NotProvable: an operator whose values are not proven here.
    """
    found = [Enclosure.exact(x)]
    for node in network.nodes:
        values = [found[i] for i in node.inputs]
        if unique and isinstance(node.op, Equilibrium):
            found.append(solutions(node.op, values[0]))
        else:
            found.append(step(node.op, values, node.title))
    return found


def step(op: Operator, values: list[Enclosure], title: str) -> Enclosure:
    """The value of one node."""
    z = values[0]
    if isinstance(op, Sum):
        return added(op.signs, values)
    if isinstance(op, Concatenate):
        return Enclosure(
            np.concatenate([v.mid for v in values], -1), np.concatenate([v.radius() for v in values], -1)
        )
    if isinstance(op, Gather):
        return Enclosure(op.apply(z.mid), op.apply(z.radius()))
    if isinstance(op, AbstractLinear):
        return linear(op, z)
    low, high = z.ends()
    if isinstance(op, Activation):
        if not op.name:
            raise NotProvable(
                "Only the slopes of an activation are known, so its values are not. Name the activation."
            )
        return within(*FUNCTIONS[op.name].values(low, high, **op.parameters))
    if isinstance(op, Sort | Maximum):
        return within(op.value(low), op.value(high))
    if isinstance(op, Norms):
        mid, n = op.value(z.mid), op.groups.shape[1]
        return enclose(
            mid, (lengths(z.radius()[..., op.groups]) + gamma(n + 6) * mid) * GENEROUS + 2 * n * 2.0**-500
        )
    raise NotProvable(
        f"The values of {title} are not proven: only its Lipschitz constant is. Certify in front of it."
    )


def within(low: Points, high: Points) -> Enclosure:
    """What lies between the ends."""
    mid = low / 2 + high / 2
    return enclose(mid, np.nextafter(np.maximum(high - mid, mid - low), np.inf) + 4 * TINY)


def linear(op: AbstractLinear, z: Enclosure) -> Enclosure:
    """The value of a linear map."""
    found = through(op, z.T).T + op.shift()
    if isinstance(op, Diagonal) and op.shift_error is not None:
        return enclose(found.mid, (found.radius() + op.shift_error) * GENEROUS)
    return found

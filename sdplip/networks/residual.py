"""A residual sum as a layer of a network."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdplip.networks.network import Layer, Linear


@dataclass(frozen=True, eq=False)
class Residual:
    """$x \\mapsto s(x) + f(x)$.

    Attributes:
        branch: the layers of $f$.
        shortcut: linear layers of $s$, whose output is as wide as that of $f$; none for the identity.
    """

    branch: "tuple[Layer, ...]"
    shortcut: "tuple[Linear, ...]" = ()

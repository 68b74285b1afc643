"""A residual sum as a layer of a network."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdplip.networks.network import Layer


@dataclass(frozen=True, eq=False)
class Residual:
    """$x \\mapsto x + f(x)$; `branch` holds the layers of $f$, whose output is as wide as its input."""

    branch: "tuple[Layer, ...]"

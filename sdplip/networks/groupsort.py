"""GroupSort and MaxMin as layers of a network: sorting within groups of neurons."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from sdplip.errors import InvalidWeight


@dataclass(frozen=True)
class GroupSort:
    """Sorts groups of neurons (Anil, Lucas, Grosse, ICML 2019); it is 1-Lipschitz and no elementwise function.

    Attributes:
        size: neurons a group; 2 is MaxMin up to the order of its outputs.
        halves: pair neuron i with neuron i + n / 2, maxima first (`sdplip.nn.MaxMin`); else groups are neighbours, ascending.
    """

    size: int = 2
    halves: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or (self.halves and self.size != 2):
            raise InvalidWeight(
                f"The size of a sorted group must be at least 1, and 2 with `halves`, not {self.size}."
            )

    def groups(self, width: int) -> Int[np.ndarray, "count size"]:
        """The neurons of each group, in the order in which their sorted values come out.

        Raises:
            InvalidWeight: the groups do not fill the layer.
        """
        if width % self.size:
            raise InvalidWeight(
                f"Groups of {self.size} sorted neurons do not fill a layer of {width}. Choose a divisor."
            )
        if self.halves:
            half = np.arange(width // 2)
            return np.stack([half + width // 2, half], 1)
        return np.arange(width).reshape(-1, self.size)

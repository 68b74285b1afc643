r"""What the values of a network are on a region of inputs, proven: intervals, zonotopes, lines carried backward.

`reached` gives the intervals of all values, `localise` a network that agrees with the given one there and has the slopes,
permutations and maxima that occur. `docs/proofs.md` gathers the proofs.
"""

from sdplip.kernel.reach.localise import localise
from sdplip.kernel.reach.walk import Reached, reached

__all__ = ["Reached", "localise", "reached"]

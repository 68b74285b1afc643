"""Is the spectral norm of every member of an enclosure at most c? A yes is a proof."""

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import down
from sdplip.kernel.condition.dense import holds


def norm_holds(A: Enclosure, c: float) -> bool:
    r"""True only if it is proven: $\lVert A^* \rVert \le \lVert A \rVert + \lVert A^* - A \rVert$, and the middle by its Gram matrix."""
    rest = down(c - A.error()) if A.rad.any() else c
    if not np.isfinite(rest) or rest < 0:
        return False
    return holds(A.mid, np.ones(A.shape[1]), rest) if A.mid.any() else True

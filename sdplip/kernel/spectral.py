"""Is the spectral norm of every member of an enclosure at most c? A yes is a proof."""

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.semidefinite import proves


def norm_holds(A: Enclosure, c: float) -> bool:
    r"""True only if $A^\top A \preceq c^2 I$ is proven for every member, by the smaller of $A^\top A$ and $A A^\top$."""
    if not (A.mid.any() or A.rad.any()):
        return c >= 0
    m, n = A.shape
    gram = A @ A.T if m < n else A.T @ A
    return c > 0 and proves((-gram).plus_diagonal(Enclosure.exact(c) * c))

r"""The composite bound over all groupings (CPLip, Combettes and Pesquet 2020; LipLT, Fazlyab et al. 2023), in $O(l^2)$ steps."""

from sdplip.certificates.composite import certify_composite
from sdplip.networks import Chain


def composite(chain: Chain) -> float:
    r"""$2^{-(l-1)} \sum \prod \lVert$ group of weights $\rVert$ for slopes in $[0, 1]$, and its like for others, proven."""
    return certify_composite(chain.weights, chain.slopes)

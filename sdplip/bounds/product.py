"""The product of proven norms: the bound that every other one must beat, and the quickest."""

from sdplip.certificates.network import certify_product
from sdplip.networks import Chain


def product(chain: Chain) -> float:
    r"""$\prod_k \lVert W_k \rVert_2$ times the largest slope of each hidden layer, proven."""
    return certify_product(chain.weights, chain.slopes)

"""Bounds of the differences of all pairs of outputs: what certified radii are made of."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from sdplip.bounds.auto import Method, bound
from sdplip.certificates.region import Region
from sdplip.networks import Network


def pair_bounds(
    network: Network,
    method: Method = "auto",
    *,
    region: Region | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "outputs outputs"]:
    r"""Proven constants of $f_i - f_j$ for all i and j; symmetric, 0 on the diagonal.

    A margin $f_i - f_j$ divided by entry (i, j) is a radius within which j does not overtake i. No entry exceeds $\sqrt 2$ times
    the bound of all outputs, which is therefore a cap of every entry.

    Args:
        network: any that `bound` takes, of at least two outputs.
        method: of `bound`; it runs once a pair.
        region: a ball or box; the constants then hold for inputs in it.
        progress: called with the number of pairs done and of all.

    Raises:
        InvalidProblem, NotProvable: as for `bound`.
    """
    n = network.outputs
    whole = bound(network, method, region=region).value
    cap = float(np.nextafter(whole * np.nextafter(2**0.5, 2), np.inf))
    found, done = np.zeros((n, n)), 0
    for i in range(n):
        for j in range(i):
            value = bound(network, method, output_pair=(i, j), region=region).value
            found[i, j] = found[j, i] = min(value, cap)
            done += 1
            if progress is not None:
                progress(done, n * (n - 1) // 2)
    return found

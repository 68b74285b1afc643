r"""Residual layers of SLL, whose $t_i = \sum_j |G_{ij}| q_j / q_i$ stands in no file: it is computed from q.

- Published, first version (ICLR 2023 tables): $|q|$; matrices have $\epsilon = 10^{-6}$ beside $q_i$ below.
- Published, second version: $e^q$, no $\epsilon$; in convolutions q cancels.
- 1LLC: $|q| + \epsilon$ above and below, and $\epsilon$ beside the sum. Its convolutions have the names of the published ones.
"""

import numpy as np

from sdplip.condition import gram
from sdplip.convolution import gershgorin as of_kernel
from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.importers.layer import LLC, SLL_1, SLL_2, Group, Imported, finite, kernel_or_matrix, layer_of

EPSILON = 1e-6
MATRICES = ("weights", "weight")
"""How the first and the second version call a matrix."""


def is_sll(group: Group) -> bool:
    return "q" in group and any(leaf in group for leaf in ("kernel", *MATRICES))


def version_of(groups: list[Group]) -> int | None:
    """1 or 2 by the names of the matrices; None if there are none."""
    dense = [leaf for group in groups if "q" in group for leaf in MATRICES if leaf in group]
    return None if not dense else 2 if "weight" in dense else 1


def sll(prefix: str, group: Group, version: int | None, *, llc: bool) -> Imported:
    """The layer as its version computes it."""
    leaf = next(name for name in ("kernel", *MATRICES) if name in group)
    array = kernel_or_matrix(prefix, leaf, group[leaf])
    q = finite(prefix, "q", group["q"]).astype(np.float64).reshape(-1)
    if q.shape != array.shape[:1]:
        raise InvalidWeight(
            f"`{prefix}.q` has {q.size} entries and `{prefix}.{leaf}` the shape {array.shape}: not SLL's, one q a hidden unit."
        )
    wide = array.astype(np.float64)
    if array.ndim == 2:
        second = leaf == "weight"
        above, below = (np.exp(q), np.exp(q)) if second else (abs(q), abs(q) + EPSILON)
        t = (abs(gram(wide.T)) * above).sum(-1) / below
        return layer_of(prefix, leaf, array, group, SLL_2 if second else SLL_1, t=t)
    if llc:
        t = of_kernel(wide, abs(q) + EPSILON, Geometry(), form="residual") + EPSILON
        return layer_of(prefix, leaf, array, group, f"{LLC}: SLL", t=t)
    weights = np.ones(len(q)) if version == 2 else abs(q)
    t = of_kernel(wide, weights, Geometry(), form="residual")
    said = "No matrix tells which version of SLL this is: convolutions are taken as the first one computes them, with q."
    layout = SLL_2 if version == 2 else SLL_1
    return layer_of(prefix, leaf, array, group, layout, t=t, assumed=(said,) if version is None else ())

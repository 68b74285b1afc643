r"""`lipschitz(module)`: a proven bound of the Lipschitz constant of a torch module, or the reason why there is none.

    >>> print(lipschitz(model))                             # every image size
    >>> print(lipschitz(model, input_shape=(3, 32, 32)))    # this one only, often tighter

A rule of your own, for the `forward` that `MyModule` has:

    >>> @lipschitz.register(MyModule)
    ... def _(module, context):
    ...     inner = context.bound(module.inner, "inner", context.input_shape)
    ...     return Bound(2 * inner.value, "twice the inner module", parts=(inner,))
"""

import sdplip.nn.bounds.activations
import sdplip.nn.bounds.affine
import sdplip.nn.bounds.bilipschitz
import sdplip.nn.bounds.containers
import sdplip.nn.bounds.deep
import sdplip.nn.bounds.factored
import sdplip.nn.bounds.followed
import sdplip.nn.bounds.implicit
import sdplip.nn.bounds.lipkernel
import sdplip.nn.bounds.lower_layers
import sdplip.nn.bounds.normalisation
import sdplip.nn.bounds.plain
import sdplip.nn.bounds.pooling
import sdplip.nn.bounds.propagation
import sdplip.nn.bounds.recurrent
import sdplip.nn.bounds.refusals
import sdplip.nn.bounds.residual
import sdplip.nn.bounds.sandwich
import sdplip.nn.bounds.shapes
import sdplip.nn.bounds.shifted  # noqa: F401  (each file registers its rules)
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.lower import LowerBound, lower_lipschitz
from sdplip.nn.bounds.pairwise import PairwiseBound, pairwise_lipschitz
from sdplip.nn.bounds.tree import Bound

__all__ = [
    "Bound",
    "Context",
    "LowerBound",
    "PairwiseBound",
    "lipschitz",
    "lower_lipschitz",
    "pairwise_lipschitz",
]

"""Rule of the bi-Lipschitz layer, see Note [bi-Lipschitz] of `sdplip.nn.bilipschitz`."""

import numpy as np

from sdplip.nn.bilipschitz import BiLipschitz
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound, product_above, shown, sum_above


@lipschitz.register(BiLipschitz)
def _(module: BiLipschitz, context: Context) -> Bound:
    a, r, part = centre_form(module, context)
    reason = f"a + r c with a = {a:.8g}, r = {r:.8g} and c = {shown(part.value)} of the inner module"
    return Bound(sum_above((a, product_above((r, part.value)))), reason, parts=(part,))


def centre_form(module: BiLipschitz, context: Context) -> tuple[float, float, Bound]:
    """Centre, radius, and the bound of the inner module; refused where forward might round the numbers."""
    a, r = module.centre, module.radius
    if not all(0 < v < np.inf and float(np.float32(v)) == v for v in (a, r)):
        raise context.refuse(
            module,
            f"its `centre` {a} and `radius` {r} must be positive numbers of single precision, as the constructor makes them.",
        )
    return a, r, context.bound(module.inner, "inner", context.input_shape)

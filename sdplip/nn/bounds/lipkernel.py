"""Rules of LipKernel networks: all layers together, with the multipliers that come along."""

import numpy as np
import torch
from torch import nn

from sdplip.bounds.methods.given import of_given
from sdplip.bounds.task import Task
from sdplip.errors import NotProvable
from sdplip.network.read.torch import read_module
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound, best
from sdplip.nn.bounds.weights import STALE, effective, same
from sdplip.nn.lipkernel import LipKernel, PlainLipKernel, plain_lipkernel

PARTS = nn.Linear, nn.Conv1d, nn.Conv2d
SHRINK = 1.0, 1 - 1e-7, 1 - 1e-6, 1 - 1e-5, 1 - 1e-4, 1 - 1e-3
"""By which the multipliers of a layer are tried below those of the layer in front: rounding decides which are proven."""


@lipschitz.register(LipKernel)
def _(module: LipKernel, context: Context) -> Bound:
    with torch.no_grad():
        kept = torch.cat([W.flatten() for W in module.weights()])
        now = module.now(*module._free())
    if not bool(torch.isfinite(now).all()):
        raise context.refuse(module, "its weights give NaN or infinity. Repair or retrain the network.")
    if not same(kept, now):
        raise context.refuse(module, STALE)
    return _joint(plain_lipkernel(module), context)


@lipschitz.register(PlainLipKernel)
def _joint(module: PlainLipKernel, context: Context) -> Bound:
    if context.input_shape not in (None, module.input_shape):
        raise context.refuse(module, f"it is a network of samples of shape {module.input_shape}.")
    apart = context.bound(module.layers, "layers", module.input_shape)
    given = _given(module, effective(module, "multipliers", context), context)
    network = read_module(module.layers, module.input_shape)
    for factor in SHRINK if given else ():
        lams = [lam * factor**k for k, lam in enumerate(given, 1)]
        try:
            value, _ = of_given(Task(network), lams)
        except (NotProvable, np.linalg.LinAlgError):
            continue
        together = Bound(
            value, "one inequality of all layers proven, frequency by frequency where they are convolutions"
        )
        return best(together, apart)
    return apart


def _given(module: PlainLipKernel, multipliers: np.ndarray, context: Context) -> list[np.ndarray]:
    """The multipliers of each layer but the last."""
    sizes = [len(layer.weight) for layer in module.layers if isinstance(layer, PARTS)][:-1]
    if multipliers.shape != (sum(sizes),) or not (multipliers > 0).all():
        raise context.refuse(
            module, f"its `multipliers` must be {sum(sizes)} positive numbers. Use `export_plain` again."
        )
    return np.split(multipliers, np.cumsum(sizes)[:-1]) if sizes else []

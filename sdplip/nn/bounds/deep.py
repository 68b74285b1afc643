"""Rules of residual layers with several inner layers: one inequality for all of them, with the multipliers that come along."""

import numpy as np
import torch
from torch import nn

from sdplip.arithmetic.rounding import up
from sdplip.errors import NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Proof
from sdplip.network import Activation, Dense, Diagonal, Network, Node, Sum
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound, best, shown, sum_above
from sdplip.nn.bounds.weights import STALE, effective, same
from sdplip.nn.deep_residual import DeepResidualLinear, PlainDeepResidual, plain_deep
from sdplip.nn.slopes import monotone_slope

SLACKS = (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
"""By how much kappa and the multipliers are tried above those of exact arithmetic; rounding decides which one is proven."""


@lipschitz.register(DeepResidualLinear)
def _(module: DeepResidualLinear, context: Context) -> Bound:
    with torch.no_grad():
        now = module.now(*module.free, *module.log_lambda)
        kept = torch.cat([W.flatten() for W in module.weights()])
        if not same(kept, now):
            raise context.refuse(module, STALE)
    if not bool(torch.isfinite(now).all()):
        raise context.refuse(module, "its weights give NaN or infinity. Repair or retrain the layer.")
    return _deep(plain_deep(module), context)


@lipschitz.register(PlainDeepResidual)
def _deep(module: PlainDeepResidual, context: Context) -> Bound:
    branch = context.bound(module.branch, "branch", context.input_shape)
    single = module.multipliers.dtype != torch.float64  # forward rounds h, to single precision at least
    skip = max(abs(module.h), abs(float(np.float32(module.h)))) if single else abs(module.h)
    apart = Bound(sum_above((skip, branch.value)), f"{skip:g} + the branch", parts=branch.parts)
    network, units = _increments(module, context)
    multipliers = effective(module, "multipliers", context)
    if multipliers.shape != (units,) or not (multipliers > 0).all():
        raise context.refuse(
            module, f"its `multipliers` must be {units} positive numbers. Use `export_plain` again."
        )
    for slack in SLACKS:
        kappa = module.L**2 * (1 + slack)
        proof = Proof("joint", {"multipliers": multipliers * (1 + slack), "kappa": kappa})
        try:
            value = conclude(Goal(network), proof)
        except NotProvable:
            continue
        rounding = abs(module.h - float(np.float32(module.h))) if single else 0.0
        reason = f"one inequality of all layers proven with kappa = {shown(kappa)}"
        return best(Bound(sum_above((value, up(rounding) if rounding else 0.0)), reason), apart)
    return apart


def _increments(module: PlainDeepResidual, context: Context) -> tuple[Network, int]:
    """The layer without biases as a network, and the number of its hidden units."""
    nodes, value, units = list[Node](), 0, 0
    for number, child in enumerate(module.branch):
        name = f"branch.{number}"
        if number % 2:
            monotone_slope(child)
            beta = context.bound(child, name).value
            n = nodes[-1].shape[0]
            op, units = Activation("", n, alpha=np.zeros(n), beta=np.full(n, beta)), units + n
        else:
            context.check(child, name, nn.Linear)
            op = Dense(effective(child, "weight", context))
        nodes.append(Node(op, (value,), (op.outputs,), name))
        value = len(nodes)
    features = nodes[0].op.inputs  # pyright: ignore[reportAttributeAccessIssue]
    if nodes[-1].shape != (features,):
        raise context.refuse(module, "its branch changes the number of features. Export again.")
    nodes.append(Node(Diagonal(np.full(features, float(module.h))), (0,), (features,), "skip"))
    nodes.append(Node(Sum((1, 1), features), (value, value + 1), (features,), "sum"))
    return Network((features,), tuple(nodes)), units

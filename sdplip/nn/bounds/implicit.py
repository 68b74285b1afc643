"""The rule of equilibrium layers: that the equilibrium exists, and the constant, with the multipliers of the construction."""

from contextlib import suppress

import numpy as np
import torch

from sdplip.bounds.methods.equilibrium import propose
from sdplip.bounds.task import Task
from sdplip.errors import NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Proof
from sdplip.network import Dense, Equilibrium, Network, chain
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound, shown
from sdplip.nn.bounds.weights import STALE, exact, same
from sdplip.nn.equilibrium import EquilibriumLinear, function

SLACKS = (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 1e-4)
"""By how much kappa and the multipliers are tried above those of exact arithmetic; rounding decides which one is proven."""


@lipschitz.register(EquilibriumLinear)
def _(module: EquilibriumLinear, context: Context) -> Bound:
    context.check(module.activation, "activation", type(module.activation))
    network = implicit_network(module, context)
    own = exact(module.multipliers().detach(), module, "multipliers", context)
    for slack in SLACKS:
        kappa = module.L**2 * (1 + slack)
        data = {"existence": [own], "multipliers": own * (1 + slack), "kappa": kappa}
        with suppress(NotProvable):
            value = conclude(Goal(network), Proof("equilibrium", data))
            return Bound(value, f"one equilibrium, and its inequality proven with kappa = {shown(kappa)}")
    with suppress(NotProvable):
        best = min(propose(Task(network)), key=lambda proven: proven.bound)
        return Bound(best.bound, "one equilibrium, and its inequality proven with multipliers of a solver")
    raise context.refuse(
        module,
        "that its equilibrium exists is not proven in this precision. Call `.eval()`, or raise `room`.",
    )


def implicit_network(module: EquilibriumLinear, context: Context) -> Network:
    """The layer as a network of the numbers that its forward multiplies with.

    Raises:
        RefusedModule: a cached weight of other parameters, numbers that are not finite.
    """
    with torch.no_grad():
        W, U, G = module.weights()
        if not module.training and not same(W, module.eval_weights()[0]):
            raise context.refuse(module, STALE)
    W, U, G, b, d = (
        exact(A.detach(), module, name, context)
        for name, A in (("W", W), ("U", U), ("G", G), ("bias", module.bias), ("shift", module.shift))
    )
    name, parameters = function(module.activation)
    return chain([Dense(U, b), Equilibrium(W, name, parameters), Dense(G, d)])


def guaranteed(module: EquilibriumLinear, context: Context) -> bool:
    """Whether the two statements of the note [residual] are proven of the weights of eval mode, up to a millionth."""
    from sdplip.arithmetic.matrix import Enclosure
    from sdplip.arithmetic.semidefinite import proves
    from sdplip.kernel.rules.equilibrium import existence

    network = implicit_network(module, context)
    op, G = network.nodes[1].op, network.nodes[2].op
    assert isinstance(op, Equilibrium) and isinstance(G, Dense)
    own = exact(module.multipliers().detach(), module, "multipliers", context)
    Q = existence(Equilibrium(op.W), own)  # of slopes in [0, 1], whatever the activation
    least = np.full(len(own), 2 * module.L * module.room * (1 - 2.0**-20))
    output = Enclosure.exact(G.W)
    return proves(Q.plus_diagonal(-least)) and proves(Q * (1 + 1e-6) - output.T @ output)

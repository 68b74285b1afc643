"""The network without dead neurons: solvers see it, certificates speak of the whole one."""

from dataclasses import dataclass, replace

import numpy as np

from sdplip.bounds.result import Proposal
from sdplip.certificates.network import living_neurons
from sdplip.networks import Chain


@dataclass(frozen=True, eq=False)
class Living:
    """`chain` is what is left of `whole`; `alive` says of each hidden layer which neurons are."""

    whole: Chain
    chain: Chain
    alive: list[np.ndarray]

    @property
    def constant(self) -> bool:
        """Whether no path leads through the network."""
        return any(not rows.any() for rows in self.alive) or not all(W.any() for W in self.chain.weights)

    def expand(self, proposal: Proposal) -> Proposal:
        """The proposal for the whole network: dead neurons keep their slopes and get multiplier 0."""
        multipliers = tuple(np.zeros(len(rows)) for rows in self.alive)
        slopes = tuple((alpha.copy(), beta.copy()) for alpha, beta in self.whole.slopes)
        for k, rows in enumerate(self.alive):
            multipliers[k][rows] = proposal.multipliers[k]
            slopes[k][0][rows], slopes[k][1][rows] = proposal.slopes[k]
        return replace(proposal, multipliers=multipliers, slopes=slopes)


def living(chain: Chain) -> Living:
    """The living part of a network."""
    alive = living_neurons(chain.weights, chain.slopes)
    inputs, outputs = chain.weights[0].shape[1], len(chain.weights[-1])
    rows = [*alive, np.ones(outputs, bool)]
    columns = [np.ones(inputs, bool), *alive]
    weights = tuple(W[np.ix_(r, c)] for W, r, c in zip(chain.weights, rows, columns, strict=True))
    slopes = tuple((alpha[r], beta[r]) for (alpha, beta), r in zip(chain.slopes, alive, strict=True))
    return Living(chain, Chain(weights, slopes), alive)

r"""Rule `secants`: increments from the centre of a ball, whose neurons have the slopes of secants from their values there.

The goal is `centred`: $\lVert f(x) - f(c) \rVert \le L \lVert x - c \rVert$ for the centre c and all x of the ball. For such a pair
each neuron acts as multiplication by the slope of its secant, which lies in a narrower interval than the slopes on the ball
(`kernel.centred`); so what is proven from slopes alone of the network with those intervals, for all inputs, holds for the pair.

No data. Parts: none, and L comes from the lengths of increments themselves; or one, the proof of the network with the slopes of
secants, `secant_network`.
"""

from sdplip.errors import NotProvable
from sdplip.kernel.centred import Around, Front
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.regions import Ball, Cut, Region
from sdplip.network import Network


def secants(goal: Goal, proof: Proof, prove: Prove) -> float:
    """What the part proves of the network with the slopes of secants; without one, the length of increments."""
    if not goal.centred:
        raise NotProvable(
            "`secants` is about increments from the centre of a ball; this goal is about all pairs of inputs."
        )
    if len(proof.parts) > 1:
        raise NotProvable("`secants` needs one part or none.")
    around = _around(goal.network, goal.region)
    if proof.parts:
        return prove(Goal(around.network(), None, goal.norm), proof.parts[0])
    return float(around.gains().max()) if goal.norm == "linf" else around.length()


def secant_network(network: Network, region: Region) -> Network:
    """The network that the part of `secants` speaks of.

    Raises:
        NotProvable: the region is no ball of its inputs, or dense matrices are too large.
    """
    return _around(network, region).network()


def _around(network: Network, region: Region | None) -> Around:
    ball = region.ball if isinstance(region, Cut) else region
    if not isinstance(ball, Ball) or ball.inputs != network.inputs:
        raise NotProvable("`secants` needs a ball of the inputs of the network.")
    return Around.of(Front.of(network).at(ball.center), ball.radius)

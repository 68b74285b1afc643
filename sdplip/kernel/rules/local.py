r"""Rule `local`: on a region a network has the slopes that occur there.

With proven ends of every argument on the region (`kernel.reach`), each activation has difference quotients in a narrower
interval, groups that are in order are permuted only, and entries that cannot be the largest leave their window. For two points of
the region the network makes the increments that the local one makes with some slopes of its intervals. So what is proven of the
local network for all inputs, from slopes alone, holds on the region.

No data. One part: the proof of the local network, `local_network`.
"""

from dataclasses import replace

from sdplip.errors import NotProvable
from sdplip.kernel.maxima import maxima_first
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.reach import localise
from sdplip.kernel.regions import Region
from sdplip.network import Network


def local(goal: Goal, proof: Proof, prove: Prove) -> float:
    """What the part proves of the local network."""
    if goal.region is None:
        raise NotProvable("`local` needs a region; this goal is about all inputs.")
    if len(proof.parts) != 1:
        raise NotProvable("`local` needs one part, the proof of the local network.")
    found = local_network(goal.network, goal.region)
    return prove(replace(goal, network=found, region=None, centred=False, values=False), proof.parts[0])


def local_network(network: Network, region: Region) -> Network:
    """The network that the part of `local` speaks of.

    Raises:
        NotProvable: a region of another number of coordinates.
    """
    return localise(maxima_first(network), region)

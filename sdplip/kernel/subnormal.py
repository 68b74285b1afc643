"""Networks with subnormal numbers, on a processor that is set to read those as zero: nothing is proven of them.

Sums and products lose no more than the rules take into account, but a number that counts as zero in a comparison is another network: a
unit whose slope is 1e-310 takes part, and behind weights of 1e300 it matters."""

from dataclasses import is_dataclass

import numpy as np

from sdplip.arithmetic.powers import subnormal
from sdplip.errors import NotProvable
from sdplip.network import Network

SMALLEST = 5e-324


def refuse_lost_numbers(network: Network) -> None:
    """Raises `NotProvable` where some numbers of the network are subnormal, and the processor reads them as zero."""
    if SMALLEST == 0.0 and any(holds_subnormals(node.op) for node in network.nodes):
        raise NotProvable(
            "The network holds subnormal numbers (below 2.2e-308), which this processor is set to read as zero. Call"
            " `torch.set_flush_denormal(False)`, or do without the library that has set it."
        )


def holds_subnormals(op: object) -> bool:
    """Whether anything of floating point that an operator holds is subnormal."""
    if isinstance(op, float | np.floating | np.ndarray):
        return np.asarray(op).dtype.kind == "f" and bool(subnormal(np.asarray(op)).any())
    held = op if isinstance(op, dict) else vars(op) if is_dataclass(op) else {}
    return any(map(holds_subnormals, held.values()))

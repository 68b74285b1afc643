"""Networks with subnormal numbers, on a processor that is set to read those as zero: nothing is proven of them.

Sums and products lose no more than the rules take into account, but a number that counts as zero in a comparison is another network: a
unit whose slope is 1e-310 takes part, and behind weights of 1e300 it matters.
"""

from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from sdplip.errors import NotProvable
from sdplip.network import Network, Transposed
from sdplip.network.operators import Operator

SMALLEST = 5e-324


def refuse_lost_numbers(network: Network) -> None:
    """Nothing, where every number of the network counts.

    Raises:
        NotProvable: some are subnormal, and the processor reads them as zero.
    """
    if SMALLEST == 0.0 and any(map(_subnormal, (x for node in network.nodes for x in _numbers(node.op)))):
        raise NotProvable(
            "The network holds subnormal numbers (below 2.2e-308), which this processor is set to read as zero. Call"
            " `torch.set_flush_denormal(False)`, or do without the library that has set it."
        )


def _numbers(op: Operator) -> Iterator[np.ndarray]:
    """Everything of floating point that an operator holds."""
    if isinstance(op, Transposed):
        yield from _numbers(op.of)
    for field in fields(op):  # pyright: ignore[reportArgumentType]
        value = getattr(op, field.name)
        for each in value.values() if isinstance(value, dict) else (value,):
            if isinstance(each, float | np.floating) or (
                isinstance(each, np.ndarray) and each.dtype.kind == "f"
            ):
                yield np.asarray(each, np.float64)


def _subnormal(x: np.ndarray) -> bool:
    bits = np.ascontiguousarray(x).view(np.int64) & 0x7FFFFFFFFFFFFFFF
    return bool(((bits > 0) & (bits < 1 << 52)).any())

r"""Goals and proofs: what is to be bounded, and the tree of rules that bounds it.

A proof does not say what it proves. The kernel computes what it proves (`kernel.check.conclude`), so a conclusion cannot be
forged: whoever changes data or sub-proofs gets another conclusion, or none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sdplip.kernel.regions import Region
from sdplip.network import Network
from sdplip.shapes import short

Norm = Literal["l2", "linf"]


@dataclass(frozen=True, eq=False)
class Proof:
    """One application of a rule.

    Attributes:
        rule: a name in `sdplip.kernel.rules.RULES`.
        data: what the rule needs beside the network: multipliers, scales, cuts. Numbers, strings, lists and arrays of doubles.
        parts: proofs of what the rule rests on.
    """

    rule: str
    data: Mapping[str, Any] = field(default_factory=dict)
    parts: "tuple[Proof, ...]" = ()

    __repr__ = short


@dataclass(frozen=True, eq=False)
class Goal:
    r"""Find L with $\lVert f(x) - f(y) \rVert \le L \lVert x - y \rVert_2$ for all x, y in the region.

    Attributes:
        network: f, in exact arithmetic on its doubles.
        region: None is every input. Regions are convex.
        norm: of the output, "l2" or "linf".
        centred: y is the centre of the region, a ball; who proves the same for all y proves this too.
        values: whether f is meant with its values, as shifts make them; else the proof may use its increments alone, because
            constants were left out of the network on the way.
    """

    network: Network
    region: Region | None = None
    norm: Norm = "l2"
    centred: bool = False
    values: bool = False

    __repr__ = short


Prove = Callable[[Goal, Proof], float]
"""What a rule asks for the bound of a sub-proof."""

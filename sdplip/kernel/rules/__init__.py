"""The inference rules, one file each: `(goal, proof, prove) -> bound`. `prove(subgoal, part)` gives the bound of a sub-proof."""

from collections.abc import Callable, Mapping

from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.rules.banded import banded
from sdplip.kernel.rules.chain import chain
from sdplip.kernel.rules.composite import composite
from sdplip.kernel.rules.cut import cut
from sdplip.kernel.rules.equilibrium import equilibrium
from sdplip.kernel.rules.folded import folded
from sdplip.kernel.rules.frequency import frequency
from sdplip.kernel.rules.joint import joint
from sdplip.kernel.rules.layers import layers
from sdplip.kernel.rules.local import local
from sdplip.kernel.rules.narrow import narrow
from sdplip.kernel.rules.norm import norm
from sdplip.kernel.rules.pairwise import pairwise
from sdplip.kernel.rules.patterns import patterns
from sdplip.kernel.rules.residual import residual
from sdplip.kernel.rules.rounded import rounded
from sdplip.kernel.rules.rows import rows
from sdplip.kernel.rules.secants import secants

Rule = Callable[[Goal, Proof, Prove], float]

RULES: Mapping[str, Rule] = {
    rule.__name__: rule
    for rule in (
        banded, chain, composite, cut, equilibrium, folded, frequency, joint, layers, local, narrow, norm, pairwise, patterns,
        residual, rounded, rows, secants,
    )
}  # fmt: skip
"""By the name that proofs call them: that of the function."""
IMPLICIT = frozenset({"equilibrium", "layers", "narrow", "rows"})
"""The rules that may speak of a network with implicit layers: who proves that the equilibria exist, and who hands that on to a part."""

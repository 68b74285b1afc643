"""The inference rules, one file each: `(goal, proof, prove) -> bound`. `prove(subgoal, part)` gives the bound of a sub-proof."""

from collections.abc import Callable, Mapping

from sdplip.kernel.proof import Goal, Proof

Prove = Callable[[Goal, Proof], float]
Rule = Callable[[Goal, Proof, Prove], float]

RULES: Mapping[str, Rule] = {}
"""By the name that proofs call them."""

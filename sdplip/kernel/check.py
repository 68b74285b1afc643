"""The one door: what a proof proves about a goal. A proof from a file and one made a moment ago go through it alike."""

import numpy as np

from sdplip.errors import NotProvable
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.rules import IMPLICIT, RULES
from sdplip.kernel.subnormal import refuse_lost_numbers
from sdplip.network import Equilibrium

DEEPEST = 64
"""Rules in one another, at most."""


def conclude(goal: Goal, proof: Proof, *, depth: int = 0) -> float:
    r"""The bound L that `proof` proves of `goal`, rounded up.

    Raises:
        NotProvable: the proof proves nothing of this goal; the message says which rule fails, and why.
    """
    if proof.rule not in RULES:
        raise NotProvable(f"There is no rule `{proof.rule}`. Use one of {', '.join(RULES)}.")
    if depth > DEEPEST:
        raise NotProvable(f"The proof nests more than {DEEPEST} rules.")

    if proof.rule not in IMPLICIT and any(isinstance(node.op, Equilibrium) for node in goal.network.nodes):
        raise NotProvable(f"Rule `{proof.rule}` knows nothing of implicit layers.")
    refuse_lost_numbers(goal.network)

    def prove(subgoal: Goal, part: Proof) -> float:
        return conclude(subgoal, part, depth=depth + 1)

    with np.errstate(all="ignore"):  # what is not finite proves nothing
        bound = RULES[proof.rule](goal, proof, prove)
    if not (isinstance(bound, float) and 0 <= bound < np.inf):
        raise NotProvable(f"Rule `{proof.rule}` proves no finite bound.")
    return bound

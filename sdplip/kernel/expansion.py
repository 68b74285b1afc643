r"""How much a network expands at least: $\lVert f(x) - f(y) \rVert \ge \mu \lVert x - y \rVert$ for all x and y.

Rule `expanding`: with the system $y = A x + B v$, $f = C x + D v$ of increments (`kernel.system`) and multipliers $\lambda \ge 0$ of its
quadratic inequalities, weights w included, the statement

    $|f|^2 - \kappa |x|^2 + \sum_i \lambda_i w_i (v_i - \alpha_i y_i)(v_i - \beta_i y_i) \ge 0$ for all x and v

proves $\mu = \sqrt\kappa$, because each sum of a multiplier is at most 0 on increments of the network: it is the inequality of the rule
`joint` with the signs of $\kappa$ and $|f|^2$ exchanged. A network without nonlinear variables needs no multipliers: $\kappa$ is below the square
of the least singular value of its matrix.

This is a door of its own beside `kernel.check`: no rule of upper bounds is ever asked for a lower one. Data: `multipliers`, one for each neuron
or group in the order of the system; `kappa`.
"""

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import down, up
from sdplip.arithmetic.semidefinite import proves
from sdplip.errors import NotProvable
from sdplip.kernel.data import array, number
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.joint import on_inputs, sectors
from sdplip.kernel.subnormal import refuse_lost_numbers
from sdplip.kernel.system import expand
from sdplip.network import Network

RULE = "expanding"


def conclude_expansion(network: Network, proof: Proof) -> float:
    r"""The $\mu \ge 0$ that `proof` proves of the network, rounded down.

    Raises:
        NotProvable: the proof proves nothing of this network.
    """
    if proof.rule != RULE or proof.parts:
        raise NotProvable(f"A lower bound is proven by `{RULE}` without parts, not by `{proof.rule}`.")
    refuse_lost_numbers(network)
    with np.errstate(all="ignore"):  # what is not finite proves nothing
        system = expand(network)
        multipliers = array(proof, "multipliers", (system.multipliers,), least=0.0)
        kappa = number(proof, "kappa")
        M = sectors(system, multipliers, system.out.T @ system.out)
        if not proves(M.plus_diagonal(on_inputs(system, -kappa))):
            raise NotProvable(
                f"The inequality of the network is not proven with these multipliers and kappa = {kappa}."
            )
        return max(0.0, down(float(np.sqrt(kappa))))


def expands(A: Enclosure, s: float) -> bool:
    r"""True only if it is proven that $\lVert A^* x \rVert \ge s \lVert x \rVert$ for all x and every member $A^*$."""
    square = up(s * s)
    if not (s >= 0 and np.isfinite(square)):
        return False
    with np.errstate(all="ignore"):
        return proves((A.T @ A).plus_diagonal(-square))

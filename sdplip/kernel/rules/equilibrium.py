r"""Rule `equilibrium`: networks with implicit layers $z = \sigma(W z + x)$. That the equilibria exist is proven first, then `joint`.

**Existence.** With multipliers $\mu > 0$ of the neurons of one layer, slopes in $[\alpha, \beta]$ and a tiny $\epsilon$, the form

    $\sum_i \mu_i (v_i - \alpha_i (W v)_i)(v_i - \beta_i (W v)_i) \ge \epsilon \sum_i \mu_i v_i^2$ for all v

proves that for every x there is exactly one z. Let $F(z) = z - \sigma(W z + x)$, and let $z_1, z_2$ be two points, $e = z_1 - z_2$,
$\rho = F(z_1) - F(z_2)$. The increment $v = e - \rho$ of the activation belongs to the increment $y = W v + W \rho$ of its argument,
so $\sum \mu_i (v_i - \alpha_i y_i)(v_i - \beta_i y_i) \le 0$; with the form above, $\epsilon |v|^2 \le C (|v| + |\rho|) |\rho|$, hence $|e| \le C'
|\rho|$. F is therefore injective, its image is open (invariance of domain) and closed, so it is everything. For slopes in [0, 1] the
form is $2M - M W - W^\top M \succ 0$ with M the diagonal of $\mu$ (monDEQ: M = I, LBEN: any M).

**Constant.** Increments of the equilibria obey the inequalities of `joint` with y = A x + B v, where B now has entries on and above its
diagonal; nothing in `joint` needs that it has none. Where existence is not proven, nothing is: a bound would be about solutions that
may not exist.

Data: `existence`, multipliers of each implicit layer in their order; `multipliers` and `kappa` as for `joint`."""

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import TINY
from sdplip.arithmetic.semidefinite import proves
from sdplip.errors import NotProvable
from sdplip.kernel.data import vectors
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.rules.joint import proven_jointly
from sdplip.kernel.system import expand
from sdplip.network import Equilibrium
from sdplip.shapes import Float

STRICT = 2.0**-40
"""The epsilon of the existence."""


def equilibrium(goal: Goal, proof: Proof, prove: Prove) -> float:  # noqa: ARG001
    """$\\sqrt\\kappa$ where every equilibrium is proven to exist, and the inequality holds."""
    layers = [node.op for node in goal.network.nodes if isinstance(node.op, Equilibrium)]
    given = vectors(proof, "existence", [op.outputs for op in layers], least=TINY)
    for k, (op, multipliers) in enumerate(zip(layers, given, strict=True), 1):
        if not proves(existence(op, multipliers)):
            raise NotProvable(
                f"That implicit layer {k} has exactly one equilibrium is not proven with these multipliers."
            )
    return proven_jointly(expand(goal.network, implicit=True), proof)


def existence(op: Equilibrium, multipliers: Float[np.ndarray, " n"]) -> Enclosure:
    """The form of the existence, as a matrix that must be positive semidefinite."""
    mu, W = Enclosure.exact(multipliers), Enclosure.exact(op.W)
    alpha, beta = op.activation.alpha, op.activation.beta
    half = W * (mu * (Enclosure.exact(alpha) + beta) * 0.5)[:, None]
    M = (-half - half.T).plus_diagonal(mu - mu * STRICT)
    bent = mu * alpha * beta
    return M + (W * bent[:, None]).T @ W if bent.mid.any() else M

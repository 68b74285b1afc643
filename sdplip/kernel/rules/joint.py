r"""Rule `joint`: one linear matrix inequality for the increments of a whole network, whatever its shape.

With the system $y = A x + B v$, $f = C x + D v$ (`kernel.system`) and multipliers $\lambda > 0$ of its quadratic
inequalities, weights $w$ included, the statement

    $\kappa |x|^2 + \sum_i \lambda_i w_i (v_i - \alpha_i y_i)(v_i - \beta_i y_i) - |f|^2 \ge 0$ for all x and v

proves the Lipschitz constant $\sqrt\kappa$, because each sum of a multiplier is at most 0 on increments of the network.
In matrices

    M = kappa E_x + diag_v(lambda w) - sym(e_v lambda w (alpha + beta) y) + y' diag(lambda w alpha beta) y - f' f >= 0 .

Data: `multipliers`, one for each neuron or group in the order of the system; `kappa`. Entries of M are
enclosures (`arithmetic.matrix`): rows of the system carry their errors, and M the rounding of its own formation.
"""

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import UNIT, up
from sdplip.arithmetic.semidefinite import proves
from sdplip.errors import NotProvable
from sdplip.kernel.data import array, number
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.system import System, expand
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]


def joint(goal: Goal, proof: Proof, prove: Prove) -> float:  # noqa: ARG001
    """$\\sqrt\\kappa$ where the inequality is proven."""
    return proven_jointly(expand(goal.network), proof)


def proven_jointly(system: System, proof: Proof) -> float:
    """$\\sqrt\\kappa$ where the inequality of the system is proven with the multipliers of the proof.

    Raises:
        NotProvable: it is not.
    """
    multipliers = array(proof, "multipliers", (system.multipliers,), least=0.0)
    kappa = number(proof, "kappa")
    if not proves(inequality(system, multipliers).plus_diagonal(on_inputs(system, kappa))):
        raise NotProvable(
            f"The inequality of the network is not proven with these multipliers and kappa = {kappa}."
        )
    return up(float(np.sqrt(kappa)))


def on_inputs(system: System, kappa: float) -> Vector:
    """kappa on the inputs, 0 elsewhere: what is to be added to the diagonal of `inequality`."""
    return np.concatenate([np.full(system.inputs, kappa), np.zeros(system.order)])


def inequality(system: System, multipliers: Vector) -> Enclosure:
    """The matrix M without kappa."""
    return sectors(system, multipliers, -(system.out.T @ system.out))


def sectors(system: System, multipliers: Vector, M: Enclosure) -> Enclosure:
    """`M` and the matrix of the inequalities of all variables with their multipliers."""
    n, N = system.inputs, system.order
    weight = Enclosure.of(system.weight, 2 * UNIT)
    lam = weight * multipliers[system.group]
    if not N:
        return M
    bent = lam * system.alpha * system.beta
    if bent.mid.any():
        M = M + (system.y * bent[:, None]).T @ system.y
    half = system.y * (lam * (Enclosure.exact(system.alpha) + system.beta) * 0.5)[:, None]
    side = Enclosure.block([[np.zeros((n, n + N))], [half]])
    return (M - side - side.T).plus_diagonal(Enclosure(*_padded(lam, n)))


def _padded(v: Enclosure, n: int) -> tuple[Vector, Vector]:
    return np.concatenate([np.zeros(n), v.mid]), np.concatenate([np.zeros(n), v.radius()])

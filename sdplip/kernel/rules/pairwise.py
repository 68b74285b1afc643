r"""Rule `pairwise`: the inequality of `joint`, tightened by multipliers of pairs of neurons.

A variable i that is alone in its group (a neuron, a sorted pair) obeys $p_i q_i \ge 0$ with $p_i = v_i - \alpha_i y_i$ and
$q_i = \beta_i y_i - v_i$: both have one sign $s_i$, so $p_i = s_i a_i$, $q_i = s_i b_i$ with $a_i, b_i \ge 0$. For two such variables i
and j, of one layer or of two, and a symmetric matrix F of order 4::

    (p_i q_i p_j q_j) F (p_i q_i p_j q_j)' = (a_i b_i a_j b_j) D F D (a_i b_i a_j b_j)' ,   D = diag(1, 1, s, s) ,   s = s_i s_j = +-1 .

Where $D F D - N_s$ is positive semidefinite for s = 1 and for s = -1, with matrices $N_s \ge 0$ entry by entry, both forms are copositive, and
the form is at least 0 on increments of the network, whatever pieces of its activations the two inputs choose for either neuron. Hence::

    kappa |x|^2 + sum_i lambda_i w_i (v_i - alpha_i y_i)(v_i - beta_i y_i) - sum_pairs (p q p q) F (p q p q)' - |f|^2 >= 0 for all x and v

proves the Lipschitz constant $\sqrt\kappa$, as in `joint`. Up to order 4 every copositive matrix is such a sum (Diananda 1962), so
that F may be any form that the slopes of two neurons allow. Nothing is compared but signs of one increment: values of
neurons, and differences of two of them, would be false for increments.

Data: `multipliers` and `kappa` as for `joint`; `first` and `second`, the variables of each pair in the order of the system;
`forms`, the upper triangle of F row by row (10 numbers a pair); `rests`, that of $N_1$ and of $N_{-1}$ above the diagonal
(2 times 6), which is 0. What is formed of them is an enclosure (`arithmetic.matrix`)."""

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import up
from sdplip.arithmetic.semidefinite import proves
from sdplip.errors import NotProvable
from sdplip.kernel.data import array, number, wholes
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.rules.joint import inequality, on_inputs
from sdplip.kernel.system import Counted, System, expand
from sdplip.network import LARGEST
from sdplip.shapes import Bool, Float, Int

TRIANGLE = np.array([[0, 1, 2, 3], [1, 4, 5, 6], [2, 5, 7, 8], [3, 6, 8, 9]])
"""Where the entries of a form stand among its 10 numbers."""
REST = np.array([[6, 0, 1, 2], [0, 6, 3, 4], [1, 3, 6, 5], [2, 4, 5, 6]])
"""Those of a rest among its 6, behind which a 0 is put."""
SIGNS = np.array([np.ones((4, 4)), np.kron([[1.0, -1.0], [-1.0, 1.0]], np.ones((2, 2)))])
"""$D F D$ is F times these, entry by entry."""


def pairwise(goal: Goal, proof: Proof, prove: Prove) -> float:  # noqa: ARG001
    """$\\sqrt\\kappa$ where both copositivities of every pair and the inequality are proven."""
    system = expand(goal.network)
    multipliers = array(proof, "multipliers", (system.multipliers,), least=0.0)
    kappa = number(proof, "kappa")
    first = wholes(proof, "first", None, 0, system.order - 1)
    at = np.array([first, wholes(proof, "second", len(first), 0, system.order - 1)], int).T
    forms = array(proof, "forms", (len(at), 10))[:, TRIANGLE]
    rests = array(proof, "rests", (len(at), 2, 6), least=0.0)
    if not alone(system)[at].all():
        raise NotProvable("A pair must consist of variables that share their multiplier with no other.")
    if forms[:, 0].size * (system.inputs + system.order) > LARGEST:
        raise NotProvable(f"{len(at)} pairs need matrices of more than {LARGEST} entries.")
    if not proves(differences(forms, rests)):
        raise NotProvable("The form of a pair is not proven to be copositive for both signs.")
    M = inequality(system, multipliers).plus_diagonal(on_inputs(system, kappa)) - summed(system, at, forms)
    if not proves(M):
        raise NotProvable(
            f"The inequality of the network is not proven with these pairs and kappa = {kappa}."
        )
    return up(float(np.sqrt(kappa)))


def alone(system: Counted) -> Bool[np.ndarray, " n"]:
    """Which variables share their multiplier with no other."""
    return np.bincount(system.group, minlength=system.multipliers)[system.group] == 1


def differences(forms: Float[np.ndarray, "pairs 4 4"], rests: Float[np.ndarray, "pairs 2 6"]) -> Enclosure:
    """$D F D - N_s$ of every pair and sign, as one batch."""
    whole = np.concatenate([rests, np.zeros((len(rests), 2, 1))], 2)[:, :, REST]
    return Enclosure.exact((SIGNS * forms[:, None]).reshape(-1, 4, 4)) - whole.reshape(-1, 4, 4)


def summed(
    system: System, at: Int[np.ndarray, "pairs 2"], forms: Float[np.ndarray, "pairs 4 4"]
) -> Enclosure:
    """The matrix of the sum of all forms, in inputs and variables."""
    e, N = np.eye(system.order, system.inputs + system.order, system.inputs), system.order
    both = Enclosure.block([[e - system.y * system.alpha[:, None]], [system.y * system.beta[:, None] - e]])
    rows = both[at[:, [0, 0, 1, 1]] + np.array([0, N, 0, N])]
    images, columns = Enclosure.exact(forms) @ rows, e.shape[1]
    rows, images = (
        Enclosure(M.mid.reshape(-1, columns), M.radius().reshape(-1, columns)) for M in (rows, images)
    )
    return rows.T @ images

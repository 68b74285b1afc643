r"""Constants of all margins $f_i - f_j$ of a network at once, as certified radii need them, small and large networks.

Up to `PAIR_ORDER` every pair has multipliers of its own. Above, all pairs share those of the whole network up to a factor
(`numerics/shared.py`): one factorization for all of them, one proof a pair.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.rounding import up
from sdplip.bounds.answer import NetworkBound
from sdplip.bounds.below import extreme_jacobian
from sdplip.bounds.choose import SECONDS, bound
from sdplip.bounds.methods import lipsdp, riccati
from sdplip.bounds.methods.multipliers import by_system, no_system
from sdplip.bounds.methods.norm import norm_proof
from sdplip.bounds.numerics.shared import SharedMultipliers
from sdplip.bounds.task import Proven, Task, Watch
from sdplip.errors import NotProvable
from sdplip.kernel.proof import Proof
from sdplip.kernel.system import variables
from sdplip.network import Activation, Network
from sdplip.verifier.claim import chosen

PAIR_ORDER = 400
"""Up to this number of nonlinear variables every pair gets a solve of its own: a second each at 200."""
PAIR_GAP = 1e-5
"""Relative gap of the squared constant at which such a solve stops."""
LEAST_GAIN = 1e-3
"""Pairs whose constant can become smaller by less than this share are left as they are."""
MarginMethod = Literal["auto", "product", "riccati", "lipsdp-neuron"]
Matrix = Float[np.ndarray, "outputs outputs"]
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class MarginConstants:
    r"""Proven constants of all margins.

    Attributes:
        whole: bound of all outputs together, None if nothing could be gained by one; no entry exceeds $\sqrt 2$ times it.
        values: symmetric, 0 on the diagonal; not above those that were known.
        proofs: of the pairs (i, j), i < j, that were bounded by themselves, about `verifier.claim.chosen(network, (i, j))`.
        tried: pairs that were bounded by themselves.
        hopeless: pairs of which the known constant is attained by slopes that the inequalities allow, up to `LEAST_GAIN`.
        pairs: which multipliers the pairs had.
        seconds: wall time.
    """

    whole: NetworkBound | None
    values: Matrix
    proofs: dict[tuple[int, int], Proof]
    tried: int
    hopeless: int
    pairs: Literal["none", "own multipliers", "shared multipliers"]
    seconds: float

    def proof(self) -> Proof:
        """By the rule "pairs" of accuracy, without what was known before: one for each pair, that of the whole for the others.

        Raises:
            NotProvable: there is no bound of the whole.
        """
        if self.whole is None:
            raise NotProvable(
                "Nothing was gained, so there is no proof of the constants. Use the one that was known."
            )
        network, n = self.whole.goal.network, len(self.values)
        parts = list[Proof]()
        for pair in combinations(range(n), 2):
            if pair not in self.proofs:
                apart = chosen(network, pair)
                last = norm_proof(apart.between(network.output, apart.output))
                spans = [[0, network.output], [network.output, apart.output]]
                parts.append(Proof("layers", {"spans": spans}, (self.whole.proof, last)))
            else:
                parts.append(self.proofs[pair])
        return Proof("pairs", {}, tuple(parts))


def margin_constants(
    network: Network,
    method: MarginMethod = "auto",
    *,
    pairs: bool = True,
    known: Matrix | None = None,
    watch: Watch | None = None,
    progress: Callable[[int, int], object] | None = None,
    seconds: float = SECONDS,
) -> MarginConstants:
    """The constants, by `method` for the whole network and, with `pairs`, for every pair of outputs.

    Args:
        network: any that `bound` takes, of at least two outputs.
        known: constants that are proven already. Pairs that cannot come below them by a thousandth are left out.
        watch: of the solve for the whole network, as for `bound`.
        progress: called with the number of pairs done and of all.
        seconds: budget of the bound of the whole network by "auto".

    Raises:
        InvalidProblem: a method that does not take the network.
        NotProvable: nothing finite could be proven.
    """
    begin, n = time.perf_counter(), network.outputs
    dense = no_system(network) is None
    limits = np.full((n, n), np.inf) if known is None else known
    floor = attained(network)[1] if dense and known is not None else np.zeros((n, n))
    open_ = [(i, j) for i, j in combinations(range(n), 2) if floor[i, j] < (1 - LEAST_GAIN) * limits[i, j]]
    hopeless = n * (n - 1) // 2 - len(open_)
    if not open_:
        return MarginConstants(None, limits, {}, 0, hopeless, "none", time.perf_counter() - begin)
    whole = bound(network, method, progress=watch, seconds=seconds)
    values = np.minimum(limits, up(whole.bound * up(2**0.5)))
    np.fill_diagonal(values, 0.0)
    propose = _pairs_of(network, whole, method) if pairs and dense and method != "product" else None
    if propose is None:
        return MarginConstants(whole, values, {}, 0, hopeless, "none", time.perf_counter() - begin)
    kind, by_pair = propose
    proofs = dict[tuple[int, int], Proof]()
    for done, (i, j) in enumerate(open_, 1):
        found = by_pair((i, j), values[i, j])
        if found is not None and found.bound <= values[i, j]:
            values[i, j] = values[j, i] = found.bound
            proofs[i, j] = found.proof
        if progress is not None:
            progress(done, len(open_))
    return MarginConstants(whole, values, proofs, len(open_), hopeless, kind, time.perf_counter() - begin)


def attained(network: Network) -> tuple[float, Matrix]:
    r"""The largest norm found of all outputs and of every pair among linear maps that the inequalities of a network allow.

    An inequality $(v - \alpha y)(v - \beta y) \le 0$ holds for $v = \alpha y$ and $v = \beta y$, and that of sorting for every
    permutation: so no multipliers prove less. Residual networks $x - W S \sigma(W^\top x)$ attain their layer-wise bound this
    way: with $v = 0$ every block is the identity. Floating point, not proven.
    """
    n = network.outputs
    whole, found = 0.0, np.zeros((n, n))
    for upper in (False, True):
        J = extreme_jacobian(network, upper=upper).matrix()
        G = J @ J.T
        square = np.diag(G)[:, None] + np.diag(G) - 2 * G
        whole = max(whole, float(np.linalg.eigvalsh(G)[-1]) ** 0.5)
        found = np.maximum(found, np.sqrt(np.maximum(square, 0.0)))
    return whole, found


ByPair = Callable[[tuple[int, int], float], Proven | None]


def _pairs_of(
    network: Network, whole: NetworkBound, method: MarginMethod
) -> tuple[Literal["own multipliers", "shared multipliers"], ByPair] | None:
    """How a pair gets its bound, below a known one."""
    if variables(network) <= PAIR_ORDER:
        return "own multipliers", lambda pair, _: own_bound(chosen(network, pair), method)
    task = Task(network)
    inner = task.narrow or task
    multipliers = _of_whole(whole)
    if multipliers is None or len(multipliers) != inner.system.multipliers:
        return None
    try:
        common = SharedMultipliers.of(inner.system, multipliers)
    except np.linalg.LinAlgError:
        return None

    def shared(pair: tuple[int, int], most: float) -> Proven | None:
        """What the best multiple of the shared multipliers proves below `most`; None where it proves nothing."""
        kappa, theta = common.best(*pair)
        if not kappa < most * most:
            return None
        apart = Task(chosen(network, pair))
        for room in (1e-8, 1e-6, 1e-4):
            proof = Proof("joint", {"multipliers": theta * multipliers, "kappa": kappa * (1 + 2 * room)})
            proof = Proof("narrow", {}, (proof,)) if inner is not task else proof
            try:
                return Proven(apart.conclude(proof), proof, "shared multipliers")
            except NotProvable:
                continue
        return None

    return "shared multipliers", shared


def own_bound(network: Network, method: MarginMethod = "auto", *, gap: float = PAIR_GAP) -> Proven | None:
    """What closed forms prove of a network or, unless they alone are wanted, multipliers by interior point; None: nothing."""
    task = Task(network)
    if method == "riccati":
        found = list(riccati.by_one_inequality(task))
    else:
        found = list(by_system(task, "lipsdp-neuron", lipsdp.of_system(task, gap)))
    return min(found, key=lambda proven: proven.bound, default=None)


def _of_whole(whole: NetworkBound) -> Vector | None:
    """Multipliers of the whole network in the normalisation of systems; None where it has none."""
    proof = whole.proof.parts[0] if whole.proof.rule == "narrow" else whole.proof
    if proof.rule == "joint":
        return proof.data["multipliers"]
    if proof.rule != "chain":
        return None
    ops = [node.op for node in whole.goal.network.nodes if isinstance(node.op, Activation)]
    curved = [op for op in ops if (op.alpha != op.beta).any()]
    given = zip(proof.data["multipliers"], curved, strict=True)
    lam = (
        np.concatenate([lam[op.alpha != op.beta] for lam, op in given]) * whole.bound**2
    )  # chains divide by kappa
    return np.maximum(lam, 1e-9 * lam.max(initial=1e-300))

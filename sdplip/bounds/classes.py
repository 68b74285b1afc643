r"""Constants of all margins $f_i - f_j$ of a network at once, as certified radii need them, small and large networks.

Each is the least of what these prove: the bound of all outputs times $\sqrt 2$; the bound of the network in front of the head times the
distance $\lVert u_i - u_j \rVert$ of its rows; the best multiple of the multipliers of either for the pair (`common.py`: one factorization
for all pairs, one proof a pair); multipliers of the pair's own, the largest constants first, within a budget of time.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import inf
from typing import Literal

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.rounding import up
from sdplip.bounds.answer import NetworkBound
from sdplip.bounds.below import extreme_jacobian
from sdplip.bounds.choose import SECONDS, bound
from sdplip.bounds.common import Common
from sdplip.bounds.methods import METHODS, equilibrium, lipsdp, riccati
from sdplip.bounds.methods import pairs as neuron_pairs
from sdplip.bounds.methods.multipliers import by_system, no_system
from sdplip.bounds.methods.norm import norm_proof
from sdplip.bounds.task import Proven, Task, Watch
from sdplip.errors import NotProvable
from sdplip.kernel.accuracy import distances
from sdplip.kernel.proof import Proof
from sdplip.kernel.system import variables
from sdplip.network import Dense, Network
from sdplip.verifier.claim import chosen

PAIR_ORDER = 400
"""Up to this number of nonlinear variables a pair is solved as one dense system, above as a chain where it is one."""
PAIR_GAP = 1e-5
"""Relative gap of the squared constant at which such a solve stops."""
LEAST_GAIN = 1e-3
"""Pairs whose constant can become smaller by less than this share are left as they are."""
MarginMethod = Literal["auto", "product", "riccati", "lipsdp-neuron", "pairs"]
Matrix = Float[np.ndarray, "outputs outputs"]
Kind = Literal["none", "front", "shared multipliers", "own multipliers"]
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class MarginConstants:
    r"""Proven constants of all margins.

    Attributes:
        whole: bound of all outputs together, None if nothing could be gained by one; no entry exceeds $\sqrt 2$ times it.
        front: bound of the network in front of its last matrix; None where the head is no matrix, or nothing could be gained.
        values: symmetric, 0 on the diagonal; not above those that were known.
        proofs: of the pairs (i, j), i < j, that were bounded by themselves, about `verifier.claim.chosen(network, (i, j))`.
        tried: pairs that could become smaller.
        own: pairs of which the constant is from multipliers of their own.
        hopeless: pairs of which the known constant is attained by slopes that the inequalities allow, up to `LEAST_GAIN`.
        pairs: the best kind of proof that some pair has.
        seconds: wall time.
    """

    whole: NetworkBound | None
    front: NetworkBound | None
    values: Matrix
    proofs: dict[Pair, Proof]
    tried: int
    own: int
    hopeless: int
    pairs: Kind
    seconds: float

    def proof(self) -> Proof:
        """By the rules "margins", "pairs" and "least" of accuracy, without what was known before.

        Raises:
            NotProvable: there is no bound of the whole.
        """
        if self.whole is None:
            raise NotProvable(
                "Nothing was gained, so there is no proof of the constants. Use the one that was known."
            )
        network = self.whole.goal.network
        parts = [Proof("margins", {"cut": network.output}, (self.whole.proof,))]
        if self.front is not None:
            parts.append(Proof("margins", {"cut": head_cut(network)}, (self.front.proof,)))
        if self.proofs:
            parts.append(Proof("pairs", {}, tuple(self._of_pairs(network))))
        return Proof("least", {}, tuple(parts))

    def _of_pairs(self, network: Network) -> Iterator[Proof]:
        """One for each pair, that of the whole for those that have none."""
        assert self.whole is not None
        for pair in combinations(range(len(self.values)), 2):
            if pair in self.proofs:
                yield self.proofs[pair]
                continue
            apart = chosen(network, pair)
            last = norm_proof(apart.between(network.output, apart.output))
            spans = [[0, network.output], [network.output, apart.output]]
            yield Proof("layers", {"spans": spans}, (self.whole.proof, last))


def head_cut(network: Network) -> int:
    """The value in front of the last matrix, if everything passes through that value; the output itself else."""
    last = network.nodes[-1]
    alone = isinstance(last.op, Dense) and last.inputs[0] in network.cuts
    return last.inputs[0] if alone else network.output


def margin_constants(
    network: Network,
    method: MarginMethod = "auto",
    *,
    pairs: bool = True,
    known: Matrix | None = None,
    watch: Watch | None = None,
    progress: Callable[[int, int], object] | None = None,
    seconds: float = SECONDS,
    pair_seconds: float | None = None,
) -> MarginConstants:
    """The constants, by `method` for the whole network, for the part in front of its head and, with `pairs`, for every pair of outputs.

    Args:
        network: any that `bound` takes, of at least two outputs.
        method: of all bounds; "auto" is the least of those that fit, and solves pairs by lipsdp-neuron.
        known: constants that are proven already. Pairs that cannot come below them by a thousandth are left out.
        watch: of the solves for the whole network and its front, as for `bound`.
        progress: called with the number of pairs done and of all.
        seconds: budget of each of these two solves by "auto" and "pairs".
        pair_seconds: of all solves of pairs by themselves; None is `seconds`.

    Raises:
        InvalidProblem: a method that does not take the network.
        NotProvable: nothing finite could be proven.
    """
    begin, n = time.perf_counter(), network.outputs
    dense = no_system(network) is None
    limits = np.full((n, n), np.inf) if known is None else known
    floor = attained(network)[1] if dense and known is not None else np.zeros((n, n))
    every = list(combinations(range(n), 2))
    open_ = [pair for pair in every if floor[pair] < (1 - LEAST_GAIN) * limits[pair]]
    hopeless = len(every) - len(open_)
    if not open_:
        nothing = time.perf_counter() - begin
        return MarginConstants(None, None, limits, {}, 0, 0, hopeless, "none", nothing)
    whole = bound(network, method, progress=watch, seconds=seconds, stop=method == "pairs")
    values = np.minimum(limits, up(whole.bound * up(2**0.5)))
    front, cut = None, head_cut(network)
    if 0 < cut < network.output:
        front = _front(network.between(0, cut), method, watch, seconds)
        values = np.minimum(values, np.nextafter(_apart(network) * front.bound, np.inf))
    np.fill_diagonal(values, 0.0)
    search = _Pairs(network, method, values, floor, open_, progress)
    if pairs and dense and method != "product":
        search.by_common(whole, front)
        search.by_themselves(seconds if pair_seconds is None else pair_seconds)
    kind: Kind = "none" if front is None else "front"
    kind = "own multipliers" if search.own else "shared multipliers" if search.proofs else kind
    spent = time.perf_counter() - begin
    return MarginConstants(
        whole, front, values, search.proofs, len(open_), len(search.own), hopeless, kind, spent
    )


def _front(front: Network, method: MarginMethod, watch: Watch | None, seconds: float) -> NetworkBound:
    """Its bound, by the product where the method does not take it."""
    name = method if method == "auto" or METHODS[method].unfit(front) is None else "product"
    return bound(front, name, progress=watch, seconds=seconds, stop=name == "pairs", lower=0.0)


def _single(solved: NetworkBound) -> NetworkBound:
    """The bound by multipliers of neurons alone, where it is by pairs of them: those are worth little for other outputs."""
    if solved.method != "pairs":
        return solved
    return bound(solved.goal.network, "lipsdp-neuron", lower=0.0)


def _apart(network: Network) -> Matrix:
    """Distances of the rows of the head, rounded up."""
    head = network.nodes[-1].op
    assert isinstance(head, Dense)
    return distances(head.W)


@dataclass(eq=False)
class _Pairs:
    """Pairs one by one: `values` become smaller, `proofs` say why.

    Attributes:
        floor: no multipliers prove less.
        todo: pairs that can become smaller.
        own: those with multipliers of their own.
    """

    network: Network
    method: MarginMethod
    values: Matrix
    floor: Matrix
    todo: list[Pair]
    progress: Callable[[int, int], object] | None

    def __post_init__(self) -> None:
        self.proofs, self.own = dict[Pair, Proof](), set[Pair]()

    def by_common(self, *solved: NetworkBound | None) -> None:
        """The best multiples of the multipliers of each bound, one a neuron."""
        single = [_single(one) for one in solved if one is not None]
        found = [common for one in single if (common := Common.of(self.network, one)) is not None]
        for done, pair in enumerate(self.todo, 1):
            for common in found:
                self._keep(pair, common.proven(pair, self.values[pair]))
            self._tell(done, 2 * len(self.todo))

    def by_themselves(self, seconds: float) -> None:
        """A solve a pair, the largest constants first, as long as there is time for another; by pairs of neurons after all."""
        until = time.monotonic() + seconds
        self._sweep("lipsdp-neuron" if self.method == "pairs" else self.method, until)
        if self.method == "pairs":
            self._sweep("pairs", until)

    def _sweep(self, method: MarginMethod, until: float) -> None:
        last, count = 0.0, len(self.todo)
        for done, pair in enumerate(sorted(self.todo, key=lambda pair: -self.values[pair]), 1):
            begin = time.monotonic()
            if begin + last >= until:
                break
            self._tell(count + done, 2 * count)
            if self.floor[pair] >= (1 - LEAST_GAIN) * self.values[pair]:
                continue
            if self._keep(pair, own_bound(chosen(self.network, pair), method, deadline=until)):
                self.own.add(pair)
            last = time.monotonic() - begin

    def _keep(self, pair: Pair, found: Proven | None) -> bool:
        if found is None or not found.bound <= self.values[pair]:
            return False
        self.values[pair] = self.values[pair[::-1]] = found.bound
        self.proofs[pair] = found.proof
        return True

    def _tell(self, done: int, of: int) -> None:
        if self.progress is not None:
            self.progress(done, of)


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


def own_bound(
    network: Network, method: MarginMethod = "auto", *, gap: float = PAIR_GAP, deadline: float = inf
) -> Proven | None:
    """What closed forms prove of a network or, unless they alone are wanted, multipliers by interior point; None: nothing."""
    task = Task(network, deadline=deadline)
    if equilibrium.is_implicit(network):
        found = [] if equilibrium.unfit(network) else list(equilibrium.propose(task))
    elif method == "riccati":
        found = list(riccati.by_one_inequality(task))
    elif method == "pairs" and neuron_pairs.unfit(network) is None:
        found = list(neuron_pairs.propose(task))
    elif variables(network) > PAIR_ORDER:
        found = list(lipsdp.neuron(task))
    else:
        found = list(by_system(task, "lipsdp-neuron", lipsdp.of_system(task, gap)))
    return min(found, key=lambda proven: proven.bound, default=None)

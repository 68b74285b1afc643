r"""Branch and bound on the sides of hinges: the node of the largest bound is asked next, many at a time.

A node is empty (a linear program names rows against it, and the kernel approves), or bounded by multipliers (`hinge_bounds`, and the kernel
approves), or asks a hinge. Which one: the relaxation of the node has moments, and they a complete pattern near by. Where that pattern has a
larger Jacobian than the target, it is no pattern of a point, for otherwise the lower side would know it; then one of the hinges that
contradict each other is asked, of the earliest layers. Otherwise one that is on both sides most: of a few that branch whose bounds become
least in a few steps (`hinge_branches`). Nodes below an aim wait: it comes down from the largest bound to the target in steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf

import numpy as np

from sdplip.bounds.numerics.hinge_bounds import Batch, Plain, feasible_start, improve, moments
from sdplip.bounds.numerics.hinge_branches import least_branches
from sdplip.bounds.numerics.hinge_climb import Lower
from sdplip.bounds.numerics.hinge_points import Looked, left_out, look
from sdplip.bounds.numerics.hinge_tree import Tree
from sdplip.kernel.hinges import Hinges
from sdplip.kernel.rules.patterns import bounded_by
from sdplip.kernel.sides import Sides, empty
from sdplip.shapes import Float, Int

Pattern = Int[np.ndarray, " hinges"]
BATCH = 32
"""Nodes that are bounded together."""
CANDIDATES, BLAMED = 4, 2
"""Hinges of which a node tries both branches: those that are on both sides most; those that contradict each other."""
PART = 0.02
"""By how much the aim goes down at once, relative: so little that leaves are bounded well before more of them are made."""
FAR = 16.0
"""Times the target: from above that the aim goes half of the orders of magnitude at once."""
CLIMBS = 2
"""Points from which the search climbs at once."""
NOTHING = 1e-180
"""A bound that is as good as 0."""
ROOM = 1e-10
"""By how much more than the solver's value the kernel is asked to prove of a node, relative; ten thousand times that next."""


@dataclass(eq=False)
class Search:
    """A search that can be stopped after each step.

    Attributes:
        hinges: of the network.
        where: what is known of their sides; None where every pattern counts, as some biases have it.
        gap: between `upper` and `lower` at the end, relative.
        lower: the lower side, proven.
        tree: the nodes.
        patterns: of the leaves that may still be split.
        inside: of some of them the pattern of a point that is known in them.
        aim: only leaves above it are looked at.
        near: points that came nearest to patterns that have none.
        climbs: the number of patterns at which the search climbs from such points again.
        heap: these by their bounds.
        asked: how many were looked at.
        finished: the largest bound of a leaf that is not looked at again.
        floor: a value below which the bound need not come.
    """

    hinges: Hinges
    where: Sides | None
    gap: float
    lower: Lower
    tree: Tree
    patterns: dict[int, Pattern]
    plain: Plain
    inside: dict[int, Pattern] = field(default_factory=dict)
    aim: float = inf
    near: list[Float[np.ndarray, " inputs"]] = field(default_factory=list)
    climbs: int = 0
    heap: list[tuple[float, int]] = field(default_factory=list)
    asked: int = 0
    finished: float = 0.0
    floor: float = 0.0

    @staticmethod
    def begin(hinges: Hinges, where: Sides | None, gap: float) -> "Search":
        """A search that knows nothing yet; the sides that a region leaves no choice of are settled."""
        plain = Plain.of(hinges)
        lam, kappa = feasible_start(plain)
        tree = Tree(hinges.order)
        tree.add(float(kappa[0]), lam[0])
        root = np.full(hinges.order, -1, np.int8)
        found = Search(
            hinges,
            where,
            gap,
            Lower(hinges, plain, where),
            tree,
            {0: root},
            plain,
            heap=[(-float(kappa[0]), 0)],
        )
        found._settle()
        return found

    @staticmethod
    def resume(hinges: Hinges, where: Sides | None, gap: float, tree: Tree) -> "Search":
        """The search that has grown a tree."""
        patterns = tree.patterns()
        heap = [(-tree.kappa[node], node) for node in patterns]
        heapify(heap)
        plain = Plain.of(hinges)
        return Search(
            hinges,
            where,
            gap,
            Lower(hinges, plain, where),
            tree,
            patterns,
            plain,
            heap=heap,
            asked=len(tree.fork),
        )

    @property
    def upper(self) -> float:
        """The square root of the largest bound of a leaf."""
        return max(self.finished, -self.heap[0][0] if self.heap else 0.0) ** 0.5

    @property
    def target(self) -> float:
        """Bounds up to this need no further look."""
        return max((max(self.lower.value, self.floor) * (1 + self.gap)) ** 2, NOTHING)

    @property
    def done(self) -> bool:
        """Whether no leaf is above the target, or none can be split."""
        return not self.heap or -self.heap[0][0] <= self.target

    def step(self) -> None:
        """Looks at the leaves with the largest bounds."""
        nodes = list(self._worst())
        self.asked += len(nodes)
        nodes = self._without_empty(nodes)
        if not nodes:
            return
        score, slope = self._bounded(nodes)
        asked = dict[int, np.ndarray]()
        for k, node in enumerate(nodes):
            if self.tree.kappa[node] <= self.target:
                self._finish(node)
            elif self.tree.kappa[node] <= self.aim:
                heappush(self.heap, (-self.tree.kappa[node], node))
            elif (self.patterns[node] < 0).any():
                asked[node] = self._candidates(node, score[k], slope[k])
            else:
                self._settled(node, self.patterns[node])
        self._climb()
        for node, hinge in least_branches(self.plain, self.tree, self.patterns, asked, self.aim).items():
            self._fork(node, hinge)

    def _climb(self) -> None:
        """Uphill from the steepest of the points that came nearest to patterns of large Jacobians; ever more seldom."""
        if self.near and self.asked >= self.climbs:
            points = np.array(self.near)
            norms = self.plain.jacobian_norms(self.plain.pattern_at(points))
            for k in np.argsort(-norms, kind="stable")[:CLIMBS].tolist():
                self.lower.at(points[k], climb=True)
            self.climbs = self.asked + self.asked // 20
        self.near.clear()

    def _worst(self) -> Iterator[int]:
        self._aim()
        for _ in range(BATCH):
            if self.done or -self.heap[0][0] <= self.aim:
                return
            yield heappop(self.heap)[1]

    def _aim(self) -> None:
        """Where no leaf is above the aim, the next one: a part of the way to the target."""
        if not self.asked:  # the root, as far down as it goes
            self.aim = self.target
            return
        self.aim = max(self.aim, self.target) if self.asked > 1 else inf
        top = -self.heap[0][0] if self.heap else 0.0
        if top <= self.aim:
            far = top > FAR * self.target
            self.aim = (top**0.5) * (self.target**0.5) if far else max(self.target, top * (1 - PART))

    def _without_empty(self, nodes: list[int]) -> list[int]:
        """The nodes that have points, as far as is known."""
        if self.where is None:
            return nodes
        against = dict[int, Looked]()
        for node in nodes:
            if not node or node in self.inside:
                continue
            found = look(self.plain, self.where, self.patterns[node])
            if found is not None and found.none:
                against[node] = found
            elif found is not None and found.slack > 0:
                self.lower.at(found.x)
                at, pattern = self.plain.pattern_at(found.x[None])[0], self.patterns[node]
                if ((pattern < 0) | (pattern == at)).all():
                    self.inside[node] = at
        self._close(against)
        return [node for node in nodes if node in self.patterns]

    def _close(self, against: dict[int, Looked]) -> None:
        """Makes leaves empty of which the kernel agrees that they are."""
        assert self.where is not None
        nodes = list(against)
        patterns = np.array([self.patterns[node] for node in nodes], np.int8).reshape(-1, self.tree.order)
        weights = None if self.where.region is None else [against[node].weights for node in nodes]
        base = np.array([against[node].base for node in nodes], int)
        good = empty(self.hinges, self.where, patterns, base, [against[node].rows for node in nodes], weights)
        for node, agreed in zip(nodes, good.tolist(), strict=True):
            if agreed:
                self.tree.close(node, against[node].base, against[node].rows, against[node].weights)
                del self.patterns[node]

    def _bounded(self, nodes: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Improves the bounds of nodes, as far as the kernel proves them."""
        patterns = np.array([self.patterns[node] for node in nodes])
        lam = np.array([self.tree.lam[node] for node in nodes])
        kappa = np.array([self.tree.kappa[node] for node in nodes])
        batch = Batch.of(self.plain, patterns, lam, kappa * (1 + 1e-7))
        improve(batch, self.aim * (1 - 2 * ROOM))
        if (complete := np.flatnonzero((patterns >= 0).all(1))).size:  # there it is a norm
            norms = self.plain.jacobian_norms(patterns[complete])
            enough = np.maximum(norms**2 * (1 + ROOM), self.target / 2)  # not 0, of which nothing is proven
            batch.kappa[complete] = np.minimum(batch.kappa[complete], enough)
        multipliers = batch.spread(batch.lam, self.tree.order, 1.0)
        for room in (ROOM, 1e4 * ROOM):
            wanted = batch.kappa * (1 + room)
            at = np.flatnonzero(wanted < kappa)
            good = at[bounded_by(self.hinges, patterns[at], multipliers[at], wanted[at])]
            for k in good.tolist():
                kappa[k] = wanted[k]
                self.tree.lam[nodes[k]] = multipliers[
                    k
                ].copy()  # first: an interrupt leaves more than is proven
                self.tree.kappa[nodes[k]] = float(wanted[k])
        return moments(batch, self.tree.order)

    def _candidates(
        self, node: int, score: Float[np.ndarray, " hinges"], slope: Float[np.ndarray, " hinges"]
    ) -> Int[np.ndarray, " some"]:
        """Hinges that the node may ask."""
        pattern = self.patterns[node]
        first = np.argsort(-score, kind="stable")[: min(CANDIDATES, int((pattern < 0).sum()))]
        near = np.where(pattern < 0, slope > 0.5, pattern).astype(np.int8)
        steep = float(self.plain.jacobian_norms(near[None])[0]) ** 2
        if steep <= self.target:
            return first
        blamed = self._contradiction(pattern, near, steep)
        return (
            blamed[np.lexsort((-score[blamed], self.plain.depth[blamed]))[:BLAMED]] if len(blamed) else first
        )

    def _contradiction(self, pattern: Pattern, near: Pattern, steep: float) -> Int[np.ndarray, " some"]:
        """The open hinges that have a part in why a complete pattern has no point; none where it has one."""
        nothing = np.zeros(0, int)
        if self.where is None:
            self.lower.of(near)
            return nothing
        found = look(self.plain, self.where, near)
        if found is None:
            return nothing
        self.lower.at(found.x, climb=not found.none)
        if not found.none:
            return nothing
        self.near.append(found.x)
        if steep <= self.aim:
            return nothing
        blamed = np.unique(found.rows % self.tree.order)
        return blamed[pattern[blamed] < 0]

    def _fork(self, node: int, hinge: int) -> None:
        pattern, at = self.patterns.pop(node), self.inside.pop(node, None)
        for side, branch in enumerate(self.tree.split(node, hinge)):
            self.patterns[branch] = pattern.copy()
            self.patterns[branch][hinge] = side
            if at is not None and at[hinge] == side:
                self.inside[branch] = at
            heappush(self.heap, (-self.tree.kappa[branch], branch))

    def _settled(self, node: int, pattern: Pattern) -> None:
        """A complete pattern that is neither empty nor small: the constant of a point, where it has one."""
        if self.where is None:
            self.lower.of(pattern)
        else:
            found = look(self.plain, self.where, pattern)
            if found is not None and found.slack > 0:
                self.lower.at(found.x)
        self._finish(node)

    def _finish(self, node: int) -> None:
        """A leaf that keeps its bound."""
        self.finished = max(self.finished, self.tree.kappa[node])
        self.inside.pop(node, None)
        del self.patterns[node]

    def _settle(self) -> None:
        """Forks the root at hinges of which the region leaves one side."""
        if self.where is None or self.where.region is None:
            return
        node = 0
        for hinge in np.concatenate([np.zeros(0, int), *self.hinges.layers]).tolist():
            for side in (0, 1):
                pattern = self.patterns[node].copy()
                pattern[hinge] = side
                found = left_out(self.where, hinge, side) or look(self.plain, self.where, pattern)
                if found is None or not found.none:
                    continue
                base = np.array([found.base])
                if not empty(self.hinges, self.where, pattern[None], base, [found.rows], [found.weights])[0]:
                    continue
                branches = self.tree.split(node, hinge)
                self.tree.close(branches[side], found.base, found.rows, found.weights)
                rest = self.patterns.pop(node)
                node = branches[1 - side]
                rest[hinge] = 1 - side
                self.patterns[node] = rest
                break
        self.heap = [(-self.tree.kappa[node], node)]

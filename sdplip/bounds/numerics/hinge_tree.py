"""The tree of patterns that a search grows, and the proof by `patterns` that it amounts to at any moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.patterns import BOUNDED, EMPTY
from sdplip.shapes import Float, Int

Pattern = Int[np.ndarray, " hinges"]
Multipliers = Float[np.ndarray, " hinges"]


@dataclass(eq=False)
class Tree:
    """Nodes by number, the root 0.

    Attributes:
        fork: the hinge that a node asks; -1 a leaf that has a bound, -2 an empty one.
        child: the branch with side 0 of a fork; that with side 1 is the next number.
        kappa, lam: the bound of a node and its multipliers: its own, or those of what it came from.
        against: of empty leaves how many layers forget, the rows, and their weights.
    """

    order: int
    fork: list[int] = field(default_factory=list)
    child: list[int] = field(default_factory=list)
    kappa: list[float] = field(default_factory=list)
    lam: list[Multipliers] = field(default_factory=list)
    against: dict[int, tuple[int, np.ndarray, np.ndarray]] = field(default_factory=dict)

    def add(self, kappa: float, lam: Multipliers) -> int:
        """A new leaf."""
        self.fork.append(BOUNDED)
        self.child.append(0)
        self.kappa.append(kappa)
        self.lam.append(lam)
        return len(self.fork) - 1

    def split(self, node: int, hinge: int) -> tuple[int, int]:
        """Makes a leaf a fork; both branches inherit its bound."""
        branches = self.add(self.kappa[node], self.lam[node]), self.add(self.kappa[node], self.lam[node])
        self.child[node] = branches[0]
        self.fork[node] = hinge  # last: an interrupt before leaves a leaf
        return branches

    def close(self, node: int, base: int, rows: np.ndarray, weights: np.ndarray) -> None:
        """Makes a leaf an empty one."""
        self.against[node] = (base, rows, weights)
        self.fork[node] = EMPTY
        self.lam[node] = self.lam[node][:0]

    def bound(self) -> float:
        """The largest kappa of a leaf."""
        return max((k for k, fork in zip(self.kappa, self.fork, strict=True) if fork == BOUNDED), default=0.0)

    def proof(self, kappa: float, *, weights: bool) -> Proof:
        """What the tree proves, kappa at least `bound()`; forks that are no longer needed for it are left out.

        Args:
            kappa: what is claimed of every leaf.
            weights: whether empty leaves name weights: on a region, not for all inputs.
        """
        fork, multipliers, base, count = list[int](), list[np.ndarray](), list[int](), list[int]()
        rows, given = [np.zeros(0, int)], [np.zeros(0)]
        todo = [(0, np.full(self.order, -1, np.int8))]
        while todo:
            node, pattern = todo.pop()
            asked = self.fork[node]
            if asked == EMPTY:
                forgets, own, weight = self.against[node]
                fork.append(EMPTY)
                base.append(forgets)
                count.append(len(own))
                rows.append(own)
                given.append(weight)
            elif asked == BOUNDED or self.kappa[node] <= kappa * (1 - 1e-9):
                fork.append(BOUNDED)
                multipliers.append(self.lam[node][pattern < 0])
            else:
                fork.append(asked)
                for side in (1, 0):
                    branch = pattern.copy()
                    branch[asked] = side
                    todo.append((self.child[node] + side, branch))
        data: dict[str, Any] = {
            "kappa": kappa,
            "fork": fork,
            "multipliers": np.concatenate([np.zeros(0), *multipliers]),
            "base": base,
            "count": count,
            "rows": np.concatenate(rows).tolist(),
            "weights": np.concatenate(given) if weights else np.zeros(0),
        }
        return Proof("patterns", data)

    def patterns(self) -> dict[int, Pattern]:
        """The patterns of leaves that have a bound."""
        found, todo = dict[int, np.ndarray](), [(0, np.full(self.order, -1, np.int8))]
        while todo:
            node, pattern = todo.pop()
            if self.fork[node] == BOUNDED:
                found[node] = pattern
            elif self.fork[node] >= 0:
                for side in (0, 1):
                    branch = pattern.copy()
                    branch[self.fork[node]] = side
                    todo.append((self.child[node] + side, branch))
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, for a file."""
        lam = [np.resize(v, self.order) if len(v) else np.zeros(self.order) for v in self.lam]
        nodes = sorted(self.against)
        return {
            "fork": np.array(self.fork, np.int64),
            "child": np.array(self.child, np.int64),
            "kappa": np.array(self.kappa),
            "lam": np.array(lam).reshape(-1, self.order),
            "nodes": np.array(nodes, np.int64),
            "base": np.array([self.against[k][0] for k in nodes], np.int64),
            "count": np.array([len(self.against[k][1]) for k in nodes], np.int64),
            "rows": np.concatenate([np.zeros(0, np.int64), *(self.against[k][1] for k in nodes)]),
            "weights": np.concatenate([np.zeros(0), *(self.against[k][2] for k in nodes)]),
        }

    @staticmethod
    def of(order: int, kept: Mapping[str, np.ndarray]) -> "Tree":
        """The tree of such arrays."""
        tree = Tree(
            order, kept["fork"].tolist(), kept["child"].tolist(), kept["kappa"].tolist(), list(kept["lam"])
        )
        ends, count = np.cumsum(kept["count"]), kept["count"]
        for k, node in enumerate(kept["nodes"].tolist()):
            at = slice(ends[k] - count[k], ends[k])
            tree.against[node] = int(kept["base"][k]), kept["rows"][at], kept["weights"][at]
            tree.lam[node] = tree.lam[node][:0]
        return tree

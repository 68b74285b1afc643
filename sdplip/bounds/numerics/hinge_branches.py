"""Which hinge a node of a search asks: both branches of several are bounded by a few steps, and the least ones win."""

from collections.abc import Mapping

import numpy as np

from sdplip.bounds.numerics.hinge_bounds import Batch, Plain, improve
from sdplip.bounds.numerics.hinge_tree import Tree
from sdplip.shapes import Int

Pattern = Int[np.ndarray, " hinges"]
STEPS = 8
"""Of Newton's method for each branch, from the multipliers of the node, which are feasible for it."""


def least_branches(
    plain: Plain,
    tree: Tree,
    patterns: Mapping[int, Pattern],
    asked: Mapping[int, Int[np.ndarray, " some"]],
    aim: float,
) -> dict[int, int]:
    """Of the hinges that each node may ask, the one whose branches have the least bounds together; below `aim` none counts."""
    chosen = {node: int(hinges[0]) for node, hinges in asked.items()}
    several = {node: hinges for node, hinges in asked.items() if len(hinges) > 1}
    if not several:
        return chosen
    nodes = np.concatenate([np.full(2 * len(hinges), node) for node, hinges in several.items()])
    hinge = np.concatenate([np.repeat(hinges, 2) for hinges in several.values()])
    branches = np.array([patterns[node] for node in nodes.tolist()])
    branches[np.arange(len(nodes)), hinge] = np.arange(len(nodes)) % 2
    lam = np.array([tree.lam[node] for node in nodes.tolist()])
    kappa = np.array([tree.kappa[node] for node in nodes.tolist()])
    batch = Batch.of(plain, branches, lam, kappa * (1 + 1e-7))
    improve(batch, aim, steps=STEPS)
    left = np.maximum(batch.kappa - aim, 0.0) / (kappa - aim)
    left = left.reshape(-1, 2)
    for k in np.argsort(-(left.max(1) + left.sum(1)), kind="stable").tolist():  # the best one last
        chosen[int(nodes[2 * k])] = int(hinge[2 * k])
    return chosen

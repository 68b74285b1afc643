"""Nodes of a graph, certified by constants of their own.

A graph network propagates features twice along the edges of a graph of scikit-learn's digits, each joined to its ten nearest
neighbours; ten labels a class are known. Its features are attacked, all of them together. One constant of the whole graph certifies
next to nothing. But after k propagations by A >= 0, with layers of product L between that act on each node alone,

    |f_i(X) - f_i(X')| <= L sum_j (A^k)_ij |x_j - x'_j|   for every node i,

so node i has the constant L |row i of A^k|. Right: Zachary's karate club (networkx), four labels, one number a node.
"""

import networkx as nx
import numpy as np
import torch
from exhibit import bare, panels, save, show
from sklearn.datasets import load_digits
from sklearn.neighbors import kneighbors_graph
from torch import nn

from sdplip import nn as lip
from sdplip.nn.losses import CrossEntropy, LossContext
from sdplip.plot.style import DASHES, INK, PALETTE
from sdplip.robustness.graphs import node_radii
from sdplip.robustness.radii import certified_radius

TOLERANCE = 1e-4


def train(gnn, X, y, known, steps) -> nn.Module:
    optimizer = torch.optim.Adam(gnn.parameters(), 1e-2)
    for _ in range(steps):
        loss = CrossEntropy(0.5, 0.1)(gnn(X[None])[0][known], y[known], LossContext())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return gnn.double().eval()


def attacked(gnn, X, found, nodes) -> int:
    """How many of the nodes change their class when all features move against it by nearly their radius: five steps each."""
    broken = 0
    for i in nodes:
        Z = X
        for _ in range(5):
            Z = Z.detach().requires_grad_()
            s = gnn(Z[None])[0, i]
            margins = s[found.prediction[i]] - s  # 0 of the class itself
            (g,) = torch.autograd.grad(margins.masked_fill(margins == 0, torch.inf).min(), Z)
            Z = X - g / g.norm() * found.radius[i] * (1 - 1e-9)
        broken += int(gnn(Z[None])[0, i].argmax() != found.prediction[i])
    return broken


def digits(size: int, steps: int):
    """Radii of the nodes without label against three budgets, which of them are right, and nodes that attacks have changed."""
    images, y = (array[:size] for array in load_digits(return_X_y=True))
    known, edges, rng = np.zeros(size, bool), kneighbors_graph(images, 10), np.random.default_rng(0)
    known[np.concatenate([rng.permutation(np.flatnonzero(y == c))[:10] for c in range(10)])] = True
    A, X = lip.normalised_adjacency(edges.maximum(edges.T)).float(), images / 16 - images.mean(0) / 16
    X = torch.from_numpy(X)
    block = lambda: (lip.Propagate(A), lip.orthogonal(nn.Linear(64, 64), "cayley"), lip.MaxMin(-1))  # noqa: E731
    gnn = nn.Sequential(*block(), *block(), lip.LastLayerNormalised(64, 10))
    train(gnn, X.float(), torch.from_numpy(y), torch.from_numpy(known), steps)
    pairs = lip.pairwise_lipschitz(gnn, input_shape=tuple(X.shape))
    nodes = node_radii(gnn, X)
    radii = {
        "one constant for the graph": certified_radius(gnn(X[None])[0], pairs),
        "a constant for each node": nodes.radius,
        "one node attacked": node_radii(gnn, X, attacked="one").radius,
    }
    right = nodes.prediction == y
    print(f"{right[~known].mean():.1%} of {(~known).sum()} nodes right; bound {pairs.network.value:.4f}")
    radii = {name: np.where(right, r, 0)[~known] for name, r in radii.items()}
    for name, r in radii.items():
        print(name, *(f"{eps:g}: {(r > eps).mean():.1%}" for eps in (0.25, 0.5, 1, 2)))
    return radii, attacked(gnn, X, nodes, np.flatnonzero(~known)[::120]), pairs.backbone.value


def club(steps: int):
    """The karate club, radius of every node, zero where the class is wrong."""
    graph = nx.karate_club_graph()
    y = torch.tensor([int(graph.nodes[v]["club"] != "Mr. Hi") for v in graph])
    A = lip.normalised_adjacency(nx.to_scipy_sparse_array(graph, weight=None)).float()
    X, known = torch.eye(len(y)), torch.tensor([0, 1, 32, 33])
    gnn = nn.Sequential(*(lip.Propagate(A) for _ in range(4)), lip.LastLayerNormalised(len(y), 2))
    found = node_radii(train(gnn, X, y, known, steps), X.double())
    right = found.prediction == y.numpy()
    print(f"karate club: {right.mean():.1%} right, {(right & (found.radius > 0.25)).mean():.1%} beyond 0.25")
    return graph, y.numpy(), np.where(right, found.radius, 0)


def main(quick=False, out=None):
    torch.manual_seed(0)
    radii, broken, norm = digits(*(300, 40) if quick else (1797, 150))
    if out:
        draw(radii, *club(300), out)
    computed = {"nodes that attacks within their radius have changed": broken, "constant before the head": norm}  # fmt: skip
    return computed, dict(zip(computed, (0, 1), strict=True))


def draw(radii, graph, y, radius, out) -> None:
    figure, (left, right) = panels(2, size=(8.6, 3.9))
    for (name, r), colour, dash in zip(radii.items(), PALETTE, ("-", *DASHES), strict=False):
        share = 100 * (1 - np.arange(len(r)) / len(r))
        left.plot(np.sort(r), share, color=colour, linestyle=dash, label=name)
    left.set(xlim=(0, 3), ylim=(0, 100), ylabel="right and certified nodes, %", title="digits, 1,797 nodes")
    left.set_xlabel("radius, Frobenius norm")
    left.legend(loc="lower right")
    place = nx.spring_layout(graph, seed=1)
    nx.draw_networkx_edges(graph, place, ax=right, edge_color=INK, alpha=0.25)
    look = {"ax": right, "node_size": 110, "cmap": "cividis", "edgecolors": INK}
    for side, mark in enumerate("os"):
        nodes = [v for v in graph if y[v] == side]
        dots = nx.draw_networkx_nodes(graph, place, nodes, node_color=radius[nodes], node_shape=mark, **look)
        dots.set_clim(0, radius.max())
    figure.colorbar(dots, ax=right, shrink=0.8, label="certified radius of the node")
    right.set_title("karate club; circles and squares: its two sides")
    bare(right)
    save(figure, out, __file__, right)


if __name__ == "__main__":
    show(main, TOLERANCE)

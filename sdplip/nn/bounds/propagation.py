"""The rule of propagation along the edges of a graph: the norm of its matrix, by the kernel or by its edges."""

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import ArpackError, eigsh

from sdplip.arithmetic.rounding import gamma, up
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound, best, root_above
from sdplip.nn.bounds.weights import exact, matrix_bound
from sdplip.nn.propagate import Propagate

if TYPE_CHECKING:
    from scipy.sparse import csr_array

DENSE = 2048
"""Nodes up to which the kernel proves the norm of the dense matrix besides."""

STEPS = 200
"""Of the power method that looks for the weights of Note [weights of nodes]."""


@lipschitz.register(Propagate)
def _(module: Propagate, context: Context) -> Bound:
    if context.input_shape is not None and context.input_shape[0] != module.nodes:
        raise context.refuse(
            module,
            f"it propagates on {module.nodes} nodes, but a sample of shape {context.input_shape} has another number.",
        )
    A = edges_of(module, context)
    by_edges = Bound(norm_of_edges(abs(A)), f"weights of {module.nodes} nodes for {A.nnz} edges")
    if module.nodes > DENSE or not A.nnz:
        return by_edges
    return best(by_edges, matrix_bound(A.toarray(), "the propagation matrix"))


def edges_of(module: Propagate, context: Context) -> "csr_array":
    """The matrix that runs, `(nodes, nodes)`, every entry exact in double precision.

    Raises:
        RefusedModule: entries that are not finite, or edges that are not ordered pairs of nodes without repetition.
    """
    values = exact(module.values, module, "values", context)
    rows, columns = module.edges.cpu().numpy()
    place = rows.astype(np.int64) * module.nodes + columns
    inside = len(place) == 0 or (
        min(rows.min(), columns.min()) >= 0 and max(rows.max(), columns.max()) < module.nodes
    )
    if not inside or (np.diff(place) <= 0).any() or len(values) != len(place):
        raise context.refuse(
            module,
            "`edges` are no pairs of nodes, each once and row by row. Build the layer from its matrix.",
        )
    return sparse.csr_array((values, (rows, columns)), shape=(module.nodes, module.nodes))


# Note [weights of nodes]. For a matrix M >= 0 and every d > 0, |M|_2^2 = rho(M' M) <= max_i (M' M d)_i / d_i (Collatz and
# Wielandt), and |A|_2 <= | |A| |_2. The best d is the eigenvector; the normalised adjacency of a symmetric graph has the roots
# of the degrees. Lanczos and the power method propose d, each connected part by itself; the quotients are rounded outward.


def norm_of_edges(M: "csr_array") -> float:
    """At least the norm of a matrix with nonnegative entries, by Note [weights of nodes]."""
    if not M.nnz:
        return 0.0
    data = np.asarray(M.data, np.float64)
    scale = float(data.max())
    unit = sparse.csr_array((data / scale, M.indices, M.indptr), shape=M.shape)
    d = _weights(unit)
    longest = int(max(np.diff(unit.indptr).max(), np.bincount(unit.indices).max()))
    square = float(((unit.T @ (unit @ d)) / d).max())
    square = up(up(square * (1 + gamma(2 * longest + 8))) + UNDERFLOWS)
    return up(root_above(square) * scale)


UNDERFLOWS = 1e-200
"""More than underflow takes from a quotient of Note [weights of nodes] with weights of at least `LEAST`."""

LEAST = 1e-60


def _weights(M: "csr_array") -> np.ndarray:
    """Positive weights of the nodes that make the largest quotient small; any are valid."""
    pairs = sparse.csr_array(M.T @ M)
    count, part = csgraph.connected_components(pairs, directed=False)
    d = np.ones(len(part))
    if len(d) > 16:
        with suppress(ArpackError):
            d = abs(eigsh(pairs, 1, v0=d)[1][:, 0])
    for _ in range(STEPS):
        d = pairs @ np.maximum(d, LEAST)
        most = np.zeros(count)
        np.maximum.at(most, part, d)
        d = np.maximum(d / np.where(most > 0, most, 1.0)[part], LEAST)
    return d

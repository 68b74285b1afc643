r"""Propagation along the edges of a graph: $A X$ with a fixed matrix $A$, the linear part of graph convolutions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sdplip.errors import InvalidWeight
from sdplip.shapes import said


class Propagate(nn.Module):
    r"""$A X$ for features $X$ of shape `(batch, nodes, *features)`: every node gets the weighted sum of its neighbours.

    A sample is the whole graph, and lengths are Frobenius norms over it. The matrix is fixed and kept by its edges, so large
    sparse graphs cost what their edges cost. `lipschitz` proves its norm; `sdplip.robustness.graphs` gives constants of nodes.

    Args:
        matrix: square, `(nodes, nodes)`: a tensor (dense or sparse), an array, or a sparse array of SciPy. Entry (i, j) weighs
            what node i takes from node j.

    Attributes:
        edges: `(2, edges)`, rows and columns of the nonzero entries, row by row.
        values: `(edges,)`.
        nodes: number of nodes.

    Raises:
        InvalidWeight: not square, or entries that are not finite real numbers; in `forward`, features that do not fit.
    """

    edges: Int[Tensor, "2 edges"]
    values: Float[Tensor, " edges"]

    def __init__(self, matrix: Any) -> None:
        super().__init__()
        A = _sparse(matrix)
        values = A.values()
        if not values.is_floating_point():
            values = values.to(torch.get_default_dtype())
        if not bool(values.isfinite().all()):
            raise InvalidWeight(
                "`matrix` holds NaN or infinity. A node without edges gives 0 / 0 if it is divided by its degree: add loops."
            )
        self.nodes = A.shape[0]
        self.register_buffer("edges", A.indices())
        self.register_buffer("values", values)

    def matrix(self) -> Float[Tensor, "nodes nodes"]:
        """The matrix, sparse."""
        return _coo(self.edges, self.values, (self.nodes, self.nodes), coalesced=True)

    def forward(self, x: Float[Tensor, "batch nodes *features"]) -> Float[Tensor, "batch nodes *features"]:
        if x.ndim < 2 or x.shape[1] != self.nodes:
            raise InvalidWeight(
                f"`Propagate` takes (batch, {self.nodes} nodes, *features), but got {tuple(x.shape)}. A sample is the whole graph."
            )
        if x.dtype != self.values.dtype:
            raise InvalidWeight(
                f"`Propagate` holds {self.values.dtype}, but got {x.dtype}. Convert one of them with `.to(dtype)`."
            )
        columns = x.movedim(1, 0)
        A = self._constant() if torch.onnx.is_in_onnx_export() else self.matrix()
        y = A @ columns.reshape(self.nodes, -1)
        return y.reshape(columns.shape).movedim(0, 1)

    def _constant(self) -> Float[Tensor, "nodes nodes"]:
        """The dense matrix as a number that no trace follows: ONNX knows no sparse matrices."""
        A = np.zeros((self.nodes, self.nodes), self.values.detach().cpu().numpy().dtype)
        A[tuple(self.edges.cpu().numpy())] = self.values.detach().cpu().numpy()
        return torch.from_numpy(A).to(self.values.device)

    def extra_repr(self) -> str:
        return f"nodes={self.nodes}, edges={len(self.values)}"


def normalised_adjacency(adjacency: Any, *, loops: bool = True) -> Tensor:
    r"""$D^{-1/2} (A + I) D^{-1/2}$ of nonnegative edge weights, sparse, in double precision (Kipf and Welling 2017).

    Symmetric graphs give it the norm 1, with loops or without.

    Args:
        adjacency: `(nodes, nodes)`, as `Propagate` takes it.
        loops: whether every node is a neighbour of its own.

    Raises:
        InvalidWeight: a negative weight, or, without loops, a node without neighbour.
    """
    A = _sparse(adjacency).to(torch.float64)
    if loops:
        eye = torch.arange(A.shape[0])
        A = (A + _coo(torch.stack([eye, eye]), torch.ones(len(eye), dtype=A.dtype), A.shape)).coalesce()
    if bool((A.values() < 0).any()):
        raise InvalidWeight(
            "`adjacency` has a negative weight, so degrees mean nothing. Normalise it yourself."
        )
    degree = torch.zeros(A.shape[0], dtype=torch.float64).index_add_(0, A.indices()[0], A.values())
    if not bool((degree > 0).all()):
        node = int((degree <= 0).nonzero()[0])
        raise InvalidWeight(f"Node {node} has no neighbour, so its row cannot be divided. Use `loops=True`.")
    i, j = A.indices()
    return _coo(A.indices(), A.values() / (degree[i] * degree[j]).sqrt(), A.shape).coalesce()


def _sparse(matrix: Any) -> Tensor:
    """The matrix as a coalesced sparse tensor without zeros.

    Raises:
        InvalidWeight: not square, or no real numbers.
    """
    if isinstance(matrix, Tensor):
        found = matrix.detach()
        found = found if found.layout is torch.strided else found.to_sparse_coo()
    elif hasattr(type(matrix), "tocoo"):
        coo = matrix.tocoo()
        index = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
        found = _coo(index, torch.from_numpy(np.array(coo.data)), coo.shape)
    else:
        try:
            found = torch.from_numpy(np.array(matrix))
        except (TypeError, ValueError, RuntimeError):
            raise InvalidWeight(
                f"`matrix` must be a square array of numbers, dense or sparse, but is {said(matrix)}."
            ) from None
    if found.is_complex():
        raise InvalidWeight("`matrix` holds complex numbers, and no rule covers them. Pass real weights.")
    if found.ndim != 2 or found.shape[0] != found.shape[1] or not found.shape[0]:
        raise InvalidWeight(
            f"`matrix` must be square, (nodes, nodes), but has shape {tuple(found.shape)}. Pass one row and column a node."
        )
    if found.layout is torch.strided:
        found = found.to_sparse()
    found = found.coalesce()
    kept = found.values() != 0
    return _coo(found.indices()[:, kept], found.values()[kept], found.shape).coalesce()


def _coo(
    edges: Int[Tensor, "2 edges"],
    values: Float[Tensor, " edges"],
    shape: Sequence[int],
    *,
    coalesced: bool | None = None,
) -> Tensor:
    """The sparse matrix; places outside of it are an error and no access to foreign memory."""
    return torch.sparse_coo_tensor(edges, values, tuple(shape), is_coalesced=coalesced, check_invariants=True)

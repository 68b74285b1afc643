r"""Orthonormal columns by a Cholesky factorisation, and the two parametrizations of matrices that are made of them."""

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from sdplip.errors import InvalidWeight
from sdplip.nn.abstract_scaling import precision
from sdplip.nn.kept import AbstractKept


def whitened(V: Inexact[Tensor, "*batch rows n"]) -> Inexact[Tensor, "*batch rows n"]:
    r"""$Q$ with $\lVert Q \rVert_2 \le 1$ in exact arithmetic, and $Q^* Q = I$ up to rounding where $V$ has full rank.

    With columns of length 1, $V^* V + \epsilon I = L L^*$ and $V L^{-*}$ has the singular values $\sqrt{s / (s + \epsilon)} < 1$. A step
    of Newton and Schulz, $Q (3 I - Q^* Q) / 2$, takes a singular value $\sigma \in [0, \sqrt 3]$ to $\sigma (3 - \sigma^2) / 2
    \le 1$, and one of $1 - \delta$ to $1 - 1.5\, \delta^2$ at least: two of them remove what $\epsilon$ took. Dependent columns leave
    singular values below 1, no larger ones.
    """
    n = V.shape[-1]
    unit, tiny = torch.finfo(V.dtype).eps, torch.finfo(V.dtype).tiny
    V = V / (torch.linalg.vector_norm(V, dim=-2, keepdim=True) + tiny)
    I = torch.eye(n, dtype=V.dtype, device=V.device)  # noqa: E741
    L, _ = torch.linalg.cholesky_ex(V.mH @ V + 4 * unit * n * I)
    Q = torch.linalg.solve_triangular(L, V.mH, upper=False).mH
    for _ in range(2):
        Q = 1.5 * Q - 0.5 * Q @ (Q.mH @ Q)
    return Q


def reflector(V: Inexact[Tensor, "*batch n rank"]) -> Inexact[Tensor, "*batch n n"]:
    r"""$I - 2 V (V^* V)^{-1} V^*$: the reflection at the complement of the columns, orthogonal and symmetric."""
    Q = whitened(V)
    I = torch.eye(V.shape[-2], dtype=V.dtype, device=V.device)  # noqa: E741
    return I - 2 * Q @ Q.mH


class CholeskyOrthogonal(AbstractKept):
    r"""Parametrization $F \mapsto F L^{-\top}$ with $F^\top F = L L^\top$; of a wide matrix the same of its transpose.

    Orthonormal columns or rows, whichever are fewer: the dense layers of LiResNet (Hu et al. 2023). An assigned weight is replaced by its
    polar factor, which the map keeps.
    """

    def now(self, *free: Tensor) -> Tensor:
        (weight,) = free
        with torch.autocast(weight.device.type, enabled=False):
            F = weight.to(precision(weight))
            wide = F.shape[0] < F.shape[1]
            return (whitened(F.mT).mT if wide else whitened(F)).to(weight.dtype)

    @torch.no_grad()
    def right_inverse(self, weight: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        U, _, R = torch.linalg.svd(weight.double(), full_matrices=False)
        return (U @ R).to(weight.dtype)


class BlockReflector(AbstractKept):
    r"""Parametrization $V \mapsto I - 2 V (V^\top V)^{-1} V^\top$, cut to the first rows and columns of a weight that is not square.

    BRO (Lai et al., ICML 2025), with half as many columns in $V$ as rows. A square matrix of this family is symmetric with as many
    eigenvalues $-1$ as $V$ has columns; an assigned weight is replaced by the nearest one.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        if max(rows, columns) < 2:
            raise InvalidWeight(
                f"A block reflector of {rows} x {columns} entries has no freedom. Use `rescaled`."
            )
        self.rows, self.columns = rows, columns

    @property
    def rank(self) -> int:
        """Columns of the free matrix."""
        return max(self.rows, self.columns) // 2

    def now(self, *free: Tensor) -> Tensor:
        (V,) = free
        with torch.autocast(V.device.type, enabled=False):
            return reflector(V.to(precision(V)))[: self.rows, : self.columns].to(V.dtype)

    @torch.no_grad()
    def right_inverse(self, weight: Float[Tensor, "out in"]) -> Float[Tensor, "n rank"]:
        r"""Eigenvectors of the least eigenvalues of the symmetric part: $\lVert W - I + 2 P \rVert_F$ is least there."""
        n = max(self.rows, self.columns)
        square = weight.new_zeros(n, n, dtype=torch.float64)
        square[: self.rows, : self.columns] = weight
        _, vectors = torch.linalg.eigh(square + square.mT)
        return vectors[:, : self.rank].to(weight.dtype)

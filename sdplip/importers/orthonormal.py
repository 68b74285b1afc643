r"""Orthogonal layers of 1LLC: Cayley and BCOP.

- BCOP: the matrices `param_matrices`, orthonormalised by 20 iterations of Björck, $W \mapsto \frac32 W - \frac12 W W^\top W$; the first is H, the
  others, columns cut by `mask`, give projections $P_1, Q_1, \ldots$, whose 2 x 2 kernels are composed, and H behind them. Circular padding.
- The last layer of its networks: `weight` by the same iterations without scaling.
- Cayley: $Q = (I + A)^{-1} (I - A)$ with $A = U - U^*$ and $U = \alpha W / \lVert W \rVert_F$; a convolution at each frequency of its images, as a
  correlation with the taps around the pixel.
"""

import numpy as np
import torch
from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.importers.layer import LLC, Group, Imported, finite, layer_of
from sdplip.importers.linear import CIRCULAR
from sdplip.importers.modules import tensor_of
from sdplip.nn.cayley import cayley
from sdplip.nn.orthogonal import CayleyConv2d
from sdplip.shapes import Float

ITERATIONS = 20
SAID = "Björck's 20 iterations begin with the norm itself; the library estimates it from a random vector."


def is_bcop(group: Group) -> bool:
    return {"param_matrices", "mask"} <= set(group)


def is_cayley(group: Group) -> bool:
    return {"weight", "alpha"} <= set(group) and "psi" not in group and group["weight"].ndim in (2, 4)


def bcop(prefix: str, group: Group) -> Imported:
    """The convolution that runs.

    Raises:
        InvalidWeight: arrays that do not fit together.
    """
    M = finite(prefix, "param_matrices", group["param_matrices"])
    mask = group["mask"]  # of a 1 x 1 kernel it is empty
    mask = finite(prefix, "mask", mask) if mask.size else mask
    if (
        M.ndim != 3
        or M.shape[1] != M.shape[2]
        or len(M) % 2 == 0
        or mask.shape != (len(M) - 1, 1, M.shape[1])
    ):
        raise InvalidWeight(
            f"`{prefix}.param_matrices` has the shape {M.shape} and `{prefix}.mask` the shape {mask.shape}: not those of a square BCOP."
            " Save the checkpoint again."
        )
    W = M.astype(np.float64)
    W = bjorck(W / np.linalg.norm(W, 2, (1, 2))[:, None, None])
    H, columns = W[0], W[1:] * mask
    K = np.eye(len(H))[None, None]
    projections = columns @ columns.mT
    for P, Q in zip(projections[0::2], projections[1::2], strict=True):
        K = _composed(K, _block(P, Q))
    K = (H @ K).transpose(3, 2, 0, 1) if len(M) > 1 else H[:, :, None, None]
    return layer_of(
        prefix, "param_matrices", K.astype(M.dtype), group, f"{LLC}: BCOP", geometry=CIRCULAR, assumed=(SAID,)
    )


def bjorck_head(prefix: str, group: Group) -> Imported:
    """The last matrix of a network with BCOP."""
    W = finite(prefix, "weight", group["weight"])
    return layer_of(prefix, "weight", bjorck(W.astype(np.float64)).astype(W.dtype), group, f"{LLC}: BCOP")


def bjorck(W: Float[np.ndarray, "*batch out in"]) -> Float[np.ndarray, "*batch out in"]:
    for _ in range(ITERATIONS):
        W = 1.5 * W - 0.5 * W @ (W.mT @ W)
    return W


def cayley_matrix(prefix: str, group: Group) -> Imported:
    """The matrix that runs."""
    W = finite(prefix, "weight", group["weight"])
    Q = cayley(torch.from_numpy(W * (_alpha(prefix, group) / np.linalg.norm(W))).double()).numpy()
    return layer_of(prefix, "weight", Q.astype(W.dtype), group, f"{LLC}: Cayley")


@torch.no_grad()
def cayley_convolution(prefix: str, group: Group, size: int) -> nn.Module:
    """The convolution on images of `size` x `size` pixels."""
    W = tensor_of(finite(prefix, "weight", group["weight"])).double()
    n, inputs, taps, _ = W.shape
    if n != inputs or taps % 2 == 0 or W.shape[3] != taps or taps > size:
        raise InvalidWeight(
            f"`{prefix}.weight` has the shape {tuple(W.shape)}, not that of a square Cayley convolution with odd taps on images of {size} x"
            f" {size} pixels. Save the checkpoint again."
        )
    K = W.new_zeros(n, n, size, size)
    place = (taps // 2 - torch.arange(taps)) % size
    K[:, :, place[:, None], place] = W
    layer = CayleyConv2d(n, n, size, (size, size), bias="bias" in group)
    layer.weight.copy_(K * (_alpha(prefix, group) / torch.fft.rfft2(K).norm()))
    if layer.bias is not None:
        layer.bias.copy_(tensor_of(finite(prefix, "bias", group["bias"])))
    return layer


def _alpha(prefix: str, group: Group) -> float:
    return float(finite(prefix, "alpha", group["alpha"]).reshape(-1)[0])


def _block(P: Float[np.ndarray, "n n"], Q: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "2 2 n n"]:
    """The orthogonal 2 x 2 kernel of two projections."""
    I = np.eye(len(P))  # noqa: E741
    return np.stack([np.stack([A @ B for B in (Q, I - Q)]) for A in (P, I - P)])


def _composed(
    A: Float[np.ndarray, "k k n n"], B: Float[np.ndarray, "l l n n"]
) -> Float[np.ndarray, "m m n n"]:
    """The kernel of two convolutions one after the other, m = k + l - 1."""
    k, reach = len(A), len(B)
    found = np.zeros((k + reach - 1, k + reach - 1, *A.shape[2:]))
    for i, j in np.ndindex(k, k):
        found[i : i + reach, j : j + reach] += A[i, j] @ B
    return found

r"""Weights that are orthogonal themselves: which ones, the direction of a step (Newton-Schulz), and the way back to orthogonality.

A weight is a stack of `blocks` matrices, one a group of a convolution: `(out, in, *taps)` is read as `(blocks, out / blocks, in * taps)`.
Orthogonal means orthonormal rows or columns, whichever are fewer. Nothing here is a proof: `lipschitz` measures the norm of the weight that runs.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import InvalidWeight, UnsupportedConvolution

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial $a x + b x^3 + c x^5$ that takes singular values of (0, 1] near 1 in few steps (Jordan et al. 2024, Muon)."""

WIDE = 3
"""Columns a row from where Newton and Schulz go through the small Gram matrix: two products with the wide matrix instead of two a step."""

MARK = "manifold_blocks"
"""The attribute of a layer whose weight is kept orthogonal: in how many blocks."""

NEAR = 0.5
r"""$\lVert I - W^\top W \rVert_F$ below which the cubic iteration leads to the polar factor in a few steps."""

Matrices = Float[Tensor, "*batch rows columns"]
Taps = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


def as_matrices(weight: Tensor, blocks: int = 1) -> Float[Tensor, "blocks rows columns"]:
    """A weight as the matrices that are orthogonal, a view of it where its memory allows that."""
    return weight.reshape(blocks, weight.shape[0] // blocks, -1)


def newton_schulz(G: Matrices, steps: int = 3, *, half: bool = False) -> Matrices:
    r"""Nearly $U V^\top$ for $G = U S V^\top$: the largest singular value is at most 1.21, small ones stay below 1.

    Each step is $X \leftarrow a X + (b A + c A^2) X$ with $A = X X^\top$, begun at $G / \lVert G \rVert_F$ (Muon, Jordan et al. 2024). Zero stays
    zero. With `half` the products run in bfloat16: a direction needs no more digits.
    """
    a, b, c = COEFFICIENTS
    tall = G.shape[-2] > G.shape[-1]
    X = G.mT if tall else G
    X = X / (torch.linalg.matrix_norm(X, keepdim=True) + torch.finfo(X.dtype).tiny)
    X = X.bfloat16() if half else X
    if X.shape[-1] > WIDE * X.shape[-2]:
        return _by_gram(X, steps, tall=tall).to(G.dtype)
    for _ in range(steps):
        A = X @ X.mT
        X = a * X + (b * A + c * (A @ A)) @ X
    return (X.mT if tall else X).to(G.dtype)


def _by_gram(X: Matrices, steps: int, *, tall: bool) -> Matrices:
    r"""The same of a wide matrix through its small Gram matrix: every $X_k$ is $P_k X$ with $P_k$ a polynomial of $A = X X^\top$."""
    a, b, c = COEFFICIENTS
    A = X @ X.mT
    A = A.to(torch.promote_types(A.dtype, torch.float32))
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    P = eye
    for step in range(steps):
        p = a * eye + b * A + c * (A @ A)
        P = p @ P if step else p
        A = p @ A @ p if step + 1 < steps else A
    X = P.to(X.dtype) @ X
    return X.mT if tall else X


def retracted(W: Matrices) -> Matrices:
    r"""$W (3 I - W^\top W) / 2$: singular values $\sigma \in (0, \sqrt 3)$ go to $\sigma (3 - \sigma^2) / 2 \le 1$.

    Those of $1 + \delta$ go to $1 - 1.5\, \delta^2$ and less.
    """
    if W.shape[-2] < W.shape[-1]:
        return 1.5 * W - 0.5 * (W @ W.mT) @ W
    return 1.5 * W - 0.5 * W @ (W.mT @ W)


def deviation(W: Matrices) -> Float[Tensor, "*batch"]:
    r"""$\lVert I - W^\top W \rVert_F$, or that of the rows if they are fewer."""
    G = W @ W.mT if W.shape[-2] < W.shape[-1] else W.mT @ W
    return torch.linalg.matrix_norm(G - torch.eye(G.shape[-1], dtype=G.dtype, device=G.device))


@torch.no_grad()
def polar(W: Matrices) -> Matrices:
    """The orthogonal matrices nearest to `W`, computed in double precision and rounded to the type of `W`; others than finite ones as they are.

    Nearly orthogonal ones by the cubic iteration, which converges quadratically, all others by their singular values.
    """
    X = W.double()
    far = float(deviation(X).max()) if X.numel() else 0.0
    if far != far or far == float("inf"):
        return W
    if far > NEAR:
        U, _, V = torch.linalg.svd(X, full_matrices=False)
        X = U @ V
    for _ in range(6):  # 0.5 -> 0.2 -> 0.04 -> 1e-3 -> 1e-6 -> 1e-12 -> rounding
        X = retracted(X)
    return X.to(W.dtype)


def put_on_manifold(layer: nn.Module) -> None:
    """Replace the weight of `layer` by its polar factor, which stays an ordinary parameter, and mark the layer.

    Raises:
        UnsupportedConvolution: kernels whose windows overlap: orthogonal slices make no orthogonal convolution there.
        InvalidWeight: a weight that is not finite.
    """
    blocks = 1 if isinstance(layer, nn.Linear) else _blocks(layer)
    weight = layer.get_parameter("weight")
    if not bool(weight.isfinite().all()):
        raise InvalidWeight("The weight holds NaN or infinity. Start from a finite one.")
    with torch.no_grad():
        weight.copy_(polar(as_matrices(weight, blocks)).reshape(weight.shape))
    setattr(layer, MARK, blocks)


def on_manifold(layer: nn.Module) -> bool:
    """Whether `orthogonal(layer, "manifold")` made this layer, and its weight is still a parameter."""
    return MARK in vars(layer) and "weight" in dict(layer.named_parameters(recurse=False))


def manifold_weights(module: nn.Module) -> dict[nn.Parameter, int]:
    """The weights in `module` that an optimiser is to keep orthogonal, each with its number of blocks."""
    return {
        layer.get_parameter("weight"): vars(layer)[MARK] for layer in module.modules() if on_manifold(layer)
    }


def _blocks(layer: nn.Module) -> int:
    """Groups of a convolution whose windows do not overlap."""
    assert isinstance(layer, Taps)
    moves = zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    alone = all(k == 1 or (k == s and d == 1) for k, s, d in moves)
    repeats = layer.padding_mode != "zeros" and not isinstance(layer.padding, str) and any(layer.padding)
    if not alone or repeats:
        raise UnsupportedConvolution(
            "The method 'manifold' is for kernels of one pixel, or as large as their stride, and no padding but zeros; here the kernel is"
            f" {layer.kernel_size}, the stride {layer.stride}, the padding {layer.padding} ({layer.padding_mode}). Use the method 'aoc'."
        )
    return layer.groups

"""Rules of layers that run with factors of a Cayley transform: the sandwich layer and the orthogonal convolution."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.arithmetic.rounding import up
from sdplip.nn.abstract_scaling import precision
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound, product_above, shown
from sdplip.nn.bounds.weights import STALE, effective, exact, matrix_bound, same
from sdplip.nn.orthogonal import AbstractFourierConv2d, BROConv2d, CayleyConv2d
from sdplip.nn.products import CayleyConv2dProducts
from sdplip.nn.sandwich import Sandwich
from sdplip.nn.slopes import monotone_slope
from sdplip.proposals import certify

# Note [sandwich as run]. Forward computes A' R sigma(P B x + b) with diagonals P and R, and sigma has slopes in [0, beta]. It is
# s-Lipschitz if some diagonal L > 0 gives 2 L / beta >= R A A' R + L P B B' P L / s^2. With L = s R / P the right side is
# R (A A' + B B') R <= c^2 R^2, so s = c^2 max(beta P R) / 2 will do. In exact arithmetic beta P R = 2 and c = 1.


@lipschitz.register(Sandwich)
def _(module: Sandwich, context: Context) -> Bound:
    monotone_slope(module.activation)
    beta = context.bound(module.activation, "activation").value
    factors = matrix_bound(_unchanged(module, module.factors(), context), "the matrix (A B) that runs")
    with torch.no_grad():
        before, after = (exact(d.detach(), module, "log_psi", context) for d in _diagonals(module))
    return joined(module, factors, (before, after), beta, context)


def joined(
    module: nn.Module,
    factors: Bound,
    diagonals: tuple[np.ndarray, np.ndarray],
    beta: float,
    context: Context,
) -> Bound:
    """The bound of a sandwich layer whose (A B) has the norm `factors`, see Note [sandwich as run]."""
    before, after = diagonals
    if not (np.minimum(before, after) > 0).all():
        raise context.refuse(
            module, "`log_psi` is so large that its exponential or the inverse of it vanishes. Reduce it."
        )
    diagonal = up(float((before * after).max())) / 2
    value = product_above((factors.value, factors.value, beta, diagonal))
    return Bound(
        value,
        f"c^2 with c = {shown(factors.value)} proven for (A B), times {shown(product_above((beta, diagonal)))}",
        certificate=factors.certificate,
    )


@lipschitz.register(CayleyConv2d, BROConv2d)
def _(module: AbstractFourierConv2d, context: Context) -> Bound:
    r"""$\lVert Q(\omega) \rVert_2$ at every frequency, in the real form $\begin{pmatrix} X & -Y \\ Y & X \end{pmatrix}$.

    `irfft2` drops what is not Hermitian in the first and middle column of the half grid, which only shortens.
    """
    Q = module.symbol().detach()
    X, Y = (_unchanged(module, part, context) for part in (Q.real, Q.imag))
    symbol = zip(X.reshape(-1, *X.shape[2:]), Y.reshape(-1, *Y.shape[2:]), strict=True)
    return largest((np.block([[x, -y], [y, x]]) for x, y in symbol), module.image_size)


@lipschitz.register(CayleyConv2dProducts)
def _(module: CayleyConv2dProducts, context: Context) -> Bound:
    """$b^2 c$ for norms at most $b$ of `waves` and $c$ of each of `matrices`, which need not fit together."""
    waves = matrix_bound(effective(module, "waves", context).reshape(-1, module.waves.shape[-1]), "the waves")
    middle = largest(effective(module, "matrices", context), module.image_size)
    reason = (
        "b^2 c with the norms b of the Fourier transform and c of the matrices between it and its transpose"
    )
    return Bound(product_above((waves.value, waves.value, middle.value)), reason, parts=(waves, middle))


def largest(matrices: Iterable[Float[np.ndarray, "m n"]], image_size: tuple[int, int]) -> Bound:
    """The largest norm of matrices, one a frequency."""
    found = None
    for M in matrices:
        if M.any():
            certificate = certify(M, np.ones(M.shape[1]), scaling="identity")
            found = certificate if found is None or certificate.c > found.c else found
    if found is None:
        return Bound(0.0, "its symbol is zero")
    height, width = image_size
    reason = f"|Q| <= c proven at each frequency of images of {height} x {width} pixels; the certificate is that of the worst"
    return Bound(found.c, reason, certificate=found)


def _diagonals(module: Sandwich) -> tuple[Tensor, Tensor]:
    """The two diagonals as forward multiplies with them, on inputs of the dtype of the weight."""
    psi = module.log_psi.to(precision(module.log_psi)).exp()
    dtype = module.weight.dtype
    return (2**0.5 / psi).to(dtype), (2**0.5 / module.beta * psi).to(dtype)


def _unchanged(module: Sandwich | AbstractFourierConv2d, tensor: Tensor, context: Context) -> np.ndarray:
    """`tensor` in double precision, if what is cached belongs to the weight as it is now."""
    with torch.no_grad():
        cached = (
            module.factors()
            if isinstance(module, Sandwich)
            else torch.view_as_real(module.symbol().resolve_conj())
        )
        now = module._transform(module.weight)
        now = torch.view_as_real(now.resolve_conj()) if now.is_complex() else now
        if not same(cached, now):
            raise context.refuse(module, STALE)
    return exact(tensor.detach(), module, "weight", context)

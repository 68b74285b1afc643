r"""The interior-point iteration for the scaling of least product.

    maximise sum log s   subject to   Z = I - R diag(s) R^T >= 0
    minimise tr Y - n - sum log(r_i^T Y r_i)   over   Y >= 0

The order of the matrices is the number of rows of R, at most that of the weight: R may be its triangular factor.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.solvers._hkm import Vector
from sdplip.solvers._steps import (
    centering,
    cholesky,
    fraction,
    hermitian,
    length,
    newton_solver,
    random_vectors,
    shorten,
)

Factor = Float[Tensor, "k n"]
Square = Float[Tensor, "1 k k"]


@dataclass(frozen=True, eq=False)
class VolumeIterate:
    """A strictly feasible `s` and a positive definite Y, best after it is scaled to the trace n; `gap` is absolute."""

    s: Vector
    Y: Square
    objective: float
    gap: float


def volume_iterates(R: Factor, s: Vector) -> Iterator[VolumeIterate]:
    r"""Points of a primal-dual predictor-corrector method from a strictly feasible `s`; R has no zero column.

    Newton's method for $1/s_i = r_i^\top Y r_i$ and $Z Y = \mu I$ in the HKM form. With $P = Z^{-1}$, $A = R^\top P R$ and
    $B = R^\top Y R$ the direction solves $(\mathrm{diag}(s^{-2}) + A \circ B)\,ds = 1/s - \sigma\mu\,\mathrm{diag}A$, and
    $dY = \sigma\mu P - Y + P R\,\mathrm{diag}(ds) R^\top Y$ symmetrised, both with second-order terms.
    The next step overwrites Y.
    """
    k, n = R.shape
    begin = random_vectors(R[None, :, :1].expand(1, k, 1))
    factor = cholesky(_slack(R, s))
    Y = None if factor is None else torch.cholesky_inverse(factor)
    Y_factor = None if Y is None else cholesky(Y.mul_(n / Y.diagonal(dim1=-2, dim2=-1).sum()))
    while Y is not None and factor is not None and Y_factor is not None:
        YR = Y[0] @ R
        y, trace = (R * YR).sum(0), float(Y[0].trace())
        objective = -float(s.log().sum())
        yield VolumeIterate(s, Y, objective, objective - float((y * (n / trace)).log().sum()))
        total = trace - float(s @ y)  # <Y, Z>
        mu = total / k
        C = torch.linalg.solve_triangular(factor[0], R, upper=False)
        PR = torch.linalg.solve_triangular(factor[0].mT, C, upper=True)
        A = C.mT @ C
        solve = newton_solver((A * (R.mT @ YR)).diagonal_scatter(s**-2 + A.diagonal() * y))
        if solve is None or not total > 0:
            return
        Z_length = _z_length(C, begin)

        da = solve(1 / s)
        dYa = hermitian((PR * da) @ YR.mT).sub_(Y[0])
        a = min(1.0, _box(s, da), Z_length(da, 0.1))
        b = min(1.0, length(Y_factor, lambda v, D=dYa: D @ v, begin, 0.1))
        inner = float(((R * (dYa @ R)).sum(0) * da).sum())  # -<dYa, dZa>
        slope = -float(y @ da)  # <Y, dZa>
        after = total + b * (-total - slope) + a * slope - a * b * inner
        sigma, reach = centering(after / total, min(a, b)), fraction(min(a, b))

        second = da**2 / s**3 - (A * (R.mT @ (dYa @ R))) @ da
        ds = solve(1 / s - sigma * mu * A.diagonal() + second)
        P = torch.cholesky_inverse(factor[0])
        dY = (
            hermitian(PR @ (ds[:, None] * YR.mT + da[:, None] * (R.mT @ dYa)))
            .sub_(Y[0])
            .add_(P, alpha=sigma * mu)
        )
        a = min(1.0, reach * _box(s, ds), reach * Z_length(ds, 0.02))
        b = min(1.0, reach * length(Y_factor, lambda v, D=dY: D @ v, begin, 0.02))
        a, factor = shorten(lambda a, s=s, ds=ds: cholesky(_slack(R, s + a * ds)), a)
        b, Y_factor = shorten(lambda b, Y=Y, dY=dY: cholesky(torch.add(Y, dY, alpha=b)), b)
        if max(a, b) < 1e-4:
            return
        s = s + a * ds
        Y.add_(dY, alpha=b)


def _slack(R: Factor, s: Vector) -> Square:
    Z = -(R * s) @ R.mT
    Z.diagonal().add_(1)
    return Z[None]


def _box(s: Vector, ds: Vector) -> float:
    """Largest step that keeps `s` nonnegative."""
    return float(1 / torch.clamp((-ds / s).max(), min=1e-300))


def _z_length(C: Factor, begin: Float[Tensor, "1 k 1"]):
    r"""Step lengths for Z, whose direction is $-L C\,\mathrm{diag}(ds) C^\top L^\top$."""
    identity = torch.eye(len(C), dtype=C.dtype, device=C.device)[None]

    def largest(ds: Vector, tolerance: float) -> float:
        return length(identity, lambda v: -(C @ (ds[:, None] * (C.mT @ v))), begin, tolerance)

    return largest

r"""Adaptive orthogonal convolutions: one explicit kernel, with stride, dilation and groups (AOC, Boissin et al., ICML 2025)."""

from collections.abc import Iterator
from math import gcd, prod

import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.errors import InvalidWeight, UnsupportedConvolution
from sdplip.geometry import ExpandedGeometry
from sdplip.nn.abstract_scaling import precision
from sdplip.nn.cayley import cayley
from sdplip.nn.kept import AbstractKept

# Note [orthogonal kernels]. Let P be an orthogonal projector. The kernel [P, I - P] of two taps on one axis has the symbol
# F(w) = P + (I - P) exp(i w), and F* F = I because P (I - P) = 0. Products of such factors and of a matrix with orthonormal rows or
# columns are orthogonal at every frequency, and the product of symbols is the symbol of the composed kernel. Dilation by d evaluates
# the symbol at d w. A patch of p taps at stride s >= p is a matrix with orthonormal rows or columns times disjoint pixels, provided
# that the taps 0, d, .., (p - 1) d lie in different classes modulo s: p <= s / gcd(d, s). A kernel of k taps and stride s is such a
# patch with p = min(k, s), after k - p factors. Zero padding cuts blocks out of the infinite convolution: its norm is at most 1.
#
# Rounding. If R only approximates orthonormal columns and p runs over the eigenvalues of R R', then F* F = I - 2 P (I - P)
# (1 - cos w), so the singular values of a factor lie between 1 and |1 - 2 p|: at most 1 whenever |R| <= 1, however bad the
# orthogonality. What rounding makes of it is proven from the kernel that runs, as for every convolution of torch.


class AdaptiveOrthogonal(AbstractKept):
    r"""Parametrization of the kernel of a (transposed) convolution of torch, see Note [orthogonal kernels].

    Free tensors: `original0` makes the matrix of the patch, `original1` the projectors, half of whose eigenvalues are 1 (one for each
    tap beyond the patch and each axis), `original2` the isometry to more channels in front of a strided patch. Those that a shape has no
    use for do not exist. Each becomes orthonormal by a Cayley transform. No kernel can be assigned.

    Args:
        shape: of the weight, `(rows, columns / groups, *taps)`.
        geometry: of the convolution that has this weight as its kernel.

    Raises:
        UnsupportedConvolution: stride and dilation that let taps of a patch meet.
    """

    def __init__(self, shape: tuple[int, ...], geometry: ExpandedGeometry) -> None:
        super().__init__()
        taps = shape[2:]
        self.patch = tuple(min(k, s) for k, s in zip(taps, geometry.stride, strict=True))
        for p, s, d in zip(self.patch, geometry.stride, geometry.dilation, strict=True):
            if p > s // gcd(d, s):
                raise UnsupportedConvolution(
                    f"A kernel of {taps} taps with the stride {geometry.stride} and the dilation {geometry.dilation} reads a pixel"
                    " more than once, so it cannot be orthogonal. Use a dilation without a common factor with the stride, or `rescaled`."
                )
        self.groups, self.rows, self.columns = geometry.groups, shape[0] // geometry.groups, shape[1]
        self.extra = tuple(k - p for k, p in zip(taps, self.patch, strict=True))
        pixels = prod(self.patch)
        self.turned = pixels == 1 and self.rows > self.columns and any(self.extra)
        self.inner = self.columns
        if self.turned:
            self.inner = self.rows
        elif any(self.extra):
            self.inner = max(self.columns, self.rows // pixels)
        self._start: tuple[Tensor, ...] | None = None

    def build(self, weight: Tensor) -> None:
        """Draw the free tensors that registration starts with, like `weight`."""
        shapes: list[tuple[int, ...]] = [
            (self.groups, self.columns if self.turned else self.rows, self.inner * prod(self.patch))
        ]
        if sum(self.extra) and self.inner > 1:
            shapes.append((self.groups, sum(self.extra), self.inner, self.inner // 2))
        if not self.turned and self.inner > self.columns:
            shapes.append((self.groups, self.inner, self.columns))
        self._start = tuple(
            torch.randn(shape, dtype=precision(weight), device=weight.device).to(weight.dtype)
            * (2 / sum(shape[-2:])) ** 0.5
            for shape in shapes
        )

    def now(self, *free: Tensor) -> Float[Tensor, "rows columns *taps"]:
        with torch.autocast(free[0].device.type, enabled=False):
            Q = [_orthonormal(w.to(precision(w))) for w in free]
            K = Q[0].unflatten(-1, (*self.patch, self.inner))
            projectors = Q[1].unbind(1) if sum(self.extra) and self.inner > 1 else ()
            for number, (repeat, axis) in enumerate(self._factors()):
                K = self._widened(K, projectors[number] if projectors else None, axis, swap=bool(repeat % 2))
            if not self.turned and self.inner > self.columns:
                K = K @ Q[-1].reshape(self.groups, *(1,) * (K.ndim - 3), self.inner, self.columns)
            K = K.movedim(-1, 1 if self.turned else 2)
            return (
                K.flatten(0, 1).to(free[0].dtype).contiguous()
            )  # as torch's own kernels: strides choose the algorithm

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG002
        if self._start is None:
            raise InvalidWeight(
                "No kernel can be assigned to an orthogonal convolution: few kernels are orthogonal. Load the state dict of a layer"
                " of the same kind, or use `rescaled`, which takes any kernel."
            )
        start, self._start = self._start, None
        return start

    def _factors(self) -> Iterator[tuple[int, int]]:
        """(how often this axis has had a factor, axis) of every factor, axes in turn."""
        for repeat in range(max(self.extra)):
            for axis, extra in enumerate(self.extra):
                if repeat < extra:
                    yield repeat, axis

    def _widened(self, K: Tensor, R: Tensor | None, axis: int, *, swap: bool) -> Tensor:
        """`K`, of shape `(groups, rows, *taps, inner)`, after the factor [P, I - P] with P = R R' (0 if None).

        `swap` exchanges the two taps: with an odd number of channels P has fewer eigenvalues 1 than 0, and taps would drift.
        """
        dim = axis + 2
        if R is None:
            first = torch.zeros_like(K)
        else:
            flat = K.flatten(1, -2)
            first = ((flat @ R) @ R.mT).reshape(K.shape)
        second = K - first
        if swap:
            first, second = second, first
        size = K.shape[dim]
        middle = first.narrow(dim, 1, size - 1) + second.narrow(dim, 0, size - 1)
        return torch.cat([first.narrow(dim, 0, 1), middle, second.narrow(dim, size - 1, 1)], dim)


def _orthonormal(W: Tensor) -> Tensor:
    """Orthonormal columns or rows, whichever are fewer, by a Cayley transform."""
    return cayley(W) if W.shape[-2] >= W.shape[-1] else cayley(W.mT).mT

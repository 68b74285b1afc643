r"""Residual layer with several inner layers, L-Lipschitz by one joint inequality (LDL factorisation)."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import InvalidScaling, InvalidWeight
from sdplip.nn.abstract_scaling import precision
from sdplip.nn.cayley import cayley
from sdplip.nn.given import count, number
from sdplip.nn.memo import Memo
from sdplip.nn.plain import plain_linear
from sdplip.nn.slopes import monotone_slope
from sdplip.shapes import said

# Note [deep residual]. y = h x + B z_K, z_k = s(C_k z_{k-1} + b_k), z_0 = x, slopes of s in [0, 1], |h| < L. With diagonals Lam_k > 0
# the increments have |y|^2 <= L^2 |x|^2 if the block tridiagonal matrix with D_0 = (L^2 - h^2) I, diagonals 2 Lam_k, 2 Lam_K - B'B, sides
# -Lam_k C_k and the corner -h B' is at least 0. Its block LDL' has
#     D_k = 2 Lam_k - Lam_k C_k D_{k-1}^-1 C_k' Lam_k,  G_0 = h I,  G_k = G_{k-1} D_{k-1}^-1 C_k' Lam_k,  P = I + sum_{k<K} G_k D_k^-1 G_k',
# and the last block is D_K - B'P B - B'X - X'B with X = G_K, at least 0 exactly if (B + P^-1 X)' P (B + P^-1 X) <= D_K + X' P^-1 X.
# (Code of the published residual class drops the terms in X and has D_k^-2 for D_k^-1; its layers reach 1.4995 where it claims 1.)
#
# Solution: with S_0 = sqrt(L^2 - h^2) I and |N_k| <= r < 1, C_k = sqrt 2 Lam_k^-1/2 N_k S_{k-1}' gives D_k = S_k S_k' for
# S_k = sqrt 2 Lam_k^1/2 E_k, E_k E_k' = I - N_k N_k'. Then H_k = G_k S_k^-T has H_0 = h / S_0, H_k = H_{k-1} N_k' E_k^-T, X = sqrt 2 H_{K-1}
# N_K' Lam_K^1/2, and P = R R'. With M of orthonormal rows, B = R^-T M (S_K  X' R^-T)' - P^-1 X.

SHRINK = 0.99
"""Largest norm of the inner N_k, so that E_k can be inverted."""


class DeepResidualLinear(nn.Module):
    r"""$x \mapsto h x + B z_K$ with $z_k = \sigma(C_k z_{k-1} + b_k) / \beta$, $z_0 = x$: $L$-Lipschitz, see Note [deep residual].

    For one hidden layer and $h = L$ it would be a layer of SLL; here $|h| < L$. Neither the product of norms nor any inner layer is bounded by
    $L$: `lipschitz` proves the inequality of all layers together, with the multipliers of the construction.

    Attributes:
        free: one matrix a weight; its Cayley transform is what stands in the note.
        log_lambda, biases: one vector a hidden layer; $\Lambda_k = e^{\texttt{log\_lambda}}$ has no effect with ReLU but the scale.
        activation, beta: $\sigma$, and its largest slope when the layer was built.

    Raises:
        InvalidWeight: no hidden layer, widths that are not whole and positive; in `forward`, another number of features.
        InvalidScaling: `abs(h) >= L`, or no numbers.
        UnsupportedActivation: slopes not known to lie in some $[0, \beta]$.
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int],
        activation: nn.Module | None = None,
        *,
        h: float = 0.5,
        L: float = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(hidden, Iterable) or isinstance(hidden, str) or not len(list(hidden)):
            raise InvalidWeight(
                f"`hidden` must be the widths of one hidden layer or more, but is {said(hidden)}."
            )
        features, hidden = (
            count("features", features, 1, InvalidWeight),
            [count("hidden", n, 1, InvalidWeight) for n in hidden],
        )
        h, L = number("h", h, InvalidScaling), number("L", L, InvalidScaling)
        if not (abs(h) < L < math.inf):
            raise InvalidScaling(f"A deep residual layer needs `abs(h) < L`, but has h = {h} and L = {L}.")
        self.features, self.hidden, self.h, self.L = features, tuple(hidden), float(h), float(L)
        self.activation = nn.ReLU() if activation is None else activation
        self.beta = monotone_slope(self.activation)
        sizes = [features, *hidden]
        shapes = [(m + n, m) for n, m in pairwise(sizes)] + [(hidden[-1] + features, features)]
        self.free = nn.ParameterList(torch.empty(shape) for shape in shapes)
        self.log_lambda = nn.ParameterList(torch.zeros(m) for m in hidden)
        self.biases = nn.ParameterList(torch.empty(m) for m in hidden)
        self._memo = Memo()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-normal free matrices, uniform biases."""
        for free in self.free:
            nn.init.xavier_normal_(free)
        for bias, n in zip(self.biases, (self.features, *self.hidden), strict=False):
            nn.init.uniform_(bias, -1 / math.sqrt(n), 1 / math.sqrt(n))

    def weights(self) -> list[Float[Tensor, "_ _"]]:
        r"""$C_1, C_2 / \beta, \dots, C_K / \beta, B / \beta$ as forward multiplies with them. In eval mode computed once."""
        parameters = (*self.free, *self.log_lambda)
        if self.training or torch.compiler.is_compiling():
            flat = self.now(*parameters)
        else:
            flat = self._memo(self.now, *parameters)
        sizes = (self.features, *self.hidden, self.features)
        shapes = list(zip(sizes[1:], sizes, strict=False))
        parts = flat.split([m * n for m, n in shapes])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def multipliers(self) -> Float[Tensor, " units"]:
        r"""$2 \Lambda / \beta^2$ of all hidden units, with which the inequality holds."""
        return torch.cat([2 / self.beta**2 * log.double().exp() for log in self.log_lambda])

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        if not x.ndim or x.shape[-1] != self.features:
            raise InvalidWeight(f"This layer takes (..., {self.features}), but got {tuple(x.shape)}.")
        *inner, B = self.weights()
        z = x
        for C, bias in zip(inner, self.biases, strict=True):
            z = self.activation(nn.functional.linear(z, C, bias))
        return (x * self.h + nn.functional.linear(z, B)).to(x.dtype)

    def now(self, *parameters: Tensor) -> Float[Tensor, " entries"]:
        """All weights as one vector, from the parameters as they stand."""
        count, dtype = len(self.hidden), parameters[0].dtype
        with torch.autocast(parameters[0].device.type, enabled=False):
            raw = [p.to(precision(p)) for p in parameters]
            free, roots = raw[: count + 1], [(log / 2).exp() for log in raw[count + 1 :]]
            eye = torch.eye(self.features, dtype=free[0].dtype, device=free[0].device)
            s0 = math.sqrt(self.L**2 - self.h**2)
            S, H, P = s0 * eye, self.h / s0 * eye, (1 + (self.h / s0) ** 2) * eye
            X, found = H, []
            for k, (F, root) in enumerate(zip(free, roots, strict=False)):
                N = SHRINK * cayley(F)[F.shape[1] :].mT
                E = torch.linalg.cholesky(torch.eye(len(N), dtype=N.dtype, device=N.device) - N @ N.mT)
                C = math.sqrt(2) * (N @ S.mT) / root[:, None]
                found.append(C if k == 0 else C / self.beta)
                S, X = math.sqrt(2) * root[:, None] * E, math.sqrt(2) * (H @ N.mT) * root
                if k < count - 1:
                    H = torch.linalg.solve_triangular(E, N @ H.mT, upper=False).mT
                    P = P + H @ H.mT
            found.append(_outward(cayley(free[count]).mT, P, S, X) / self.beta)
            return torch.cat([W.flatten() for W in found]).to(dtype)

    def train(self, mode: bool = True) -> "DeepResidualLinear":
        self._memo.drop()
        return super().train(mode)

    def extra_repr(self) -> str:
        return f"{self.features}, hidden={list(self.hidden)}, h={self.h}, L={self.L}"


def _outward(M: Tensor, P: Tensor, S: Tensor, X: Tensor) -> Tensor:
    r"""$B = R^{-T} M (S\ X^\top R^{-T})^\top - P^{-1} X$ with $P = R R^\top$."""
    R = torch.linalg.cholesky(P)
    Y = torch.linalg.solve_triangular(R, X, upper=False)  # R^-1 X
    inner = M @ torch.cat([S.mT, Y]) - Y
    return torch.linalg.solve_triangular(R.mT, inner, upper=True)


class PlainDeepResidual(nn.Module):
    r"""$h x + \mathrm{branch}(x)$ with ordinary linear layers and activations in turn: the plain form of `DeepResidualLinear`.

    Attributes:
        multipliers: positive numbers, one a hidden unit, with which the bound is proven; any will do, good ones make it small. They
            are no part of the state dict.
    """

    multipliers: Tensor

    def __init__(self, branch: nn.Sequential, multipliers: Tensor, *, h: float, L: float) -> None:
        super().__init__()
        self.branch, self.h, self.L = branch, h, L
        self.register_buffer("multipliers", multipliers, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.h + self.branch(x)


@torch.no_grad()
def plain_deep(module: DeepResidualLinear) -> PlainDeepResidual:
    """The plain form, with the very numbers that `module` computes with."""
    *inner, B = module.weights()
    layers: list[nn.Module] = []
    for C, bias in zip(inner, module.biases, strict=True):
        layers += [plain_linear(C, bias), module.activation]
    branch = nn.Sequential(*layers, plain_linear(B, None))
    return PlainDeepResidual(branch, module.multipliers().to(B.dtype), h=module.h, L=module.L).train(
        module.training
    )

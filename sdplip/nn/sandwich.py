r"""Sandwich layer: a dense layer with its activation, 1-Lipschitz although neither of its two matrices is bounded."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import InvalidWeight
from sdplip.nn.abstract_scaling import precision
from sdplip.nn.cayley import cayley
from sdplip.nn.memo import Memo
from sdplip.nn.slopes import monotone_slope


class Sandwich(nn.Module):
    r"""$x \mapsto \frac{\sqrt 2}{\beta} A^\top \Psi\, \sigma(\sqrt 2\, \Psi^{-1} B x + b)$ with $A A^\top + B B^\top = I$ and
    a free diagonal $\Psi = e^{\texttt{log\_psi}}$ (Wang and Manchester, ICML 2023, Theorem 3.2), for $\sigma$ with slopes in
    $[0, \beta]$.

    Proof: with $\Lambda = \Psi^2$ the condition $2 \Lambda - G^\top G - \Lambda F F^\top \Lambda \succeq 0$ of one hidden
    layer, $F = \sqrt 2\, \Psi^{-1} B$ and $G = \sqrt 2 A^\top \Psi$, reads $2 \Psi (I - A A^\top - B B^\top) \Psi \succeq 0$.
    If rounding leaves only $\lVert (A\ B) \rVert_2 \le c$, then $A / c$ and $B / c$ meet it, and the layer is
    $c^2$-Lipschitz.

    Attributes:
        weight: free matrix, `(out + in, out)`; its Cayley transform is $(A\ B)^\top$.
        log_psi, bias: one entry an output, `bias` inside the activation.
        activation, beta: $\sigma$, and its largest slope when the layer was built.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: nn.Module | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if min(in_features, out_features) < 1:
            raise InvalidWeight(f"A layer from {in_features} to {out_features} features has no weight.")
        self.in_features, self.out_features = in_features, out_features
        self.activation = nn.ReLU() if activation is None else activation
        self.beta = monotone_slope(self.activation)
        self.weight = nn.Parameter(torch.empty(out_features + in_features, out_features))
        self.log_psi = nn.Parameter(torch.zeros(out_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self._memo = Memo()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-normal free matrix, as in the published code; uniform bias."""
        nn.init.xavier_normal_(self.weight)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            nn.init.uniform_(self.bias, -bound, bound)

    def factors(self) -> Float[Tensor, "out out_plus_in"]:
        r"""$(A\ B)$ as forward multiplies with it, in the dtype of `weight`. In eval mode it is computed once."""
        if self.training or torch.compiler.is_compiling():
            return self._transform(self.weight)
        return self._memo(self._transform, self.weight)

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        A, B = self.factors().split([self.out_features, self.in_features], -1)
        psi = self.log_psi.to(precision(self.log_psi)).exp()
        v = nn.functional.linear(x, B) * (math.sqrt(2) / psi).to(x.dtype)
        v = self.activation(v if self.bias is None else v + self.bias)
        v = v * (math.sqrt(2) / self.beta * psi).to(v.dtype)
        return nn.functional.linear(v, A.mT).to(x.dtype)

    def _transform(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return cayley(weight.to(precision(weight))).mT.to(weight.dtype)

    def train(self, mode: bool = True) -> "Sandwich":
        self._memo.drop()
        return super().train(mode)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"

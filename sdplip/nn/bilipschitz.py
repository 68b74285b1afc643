r"""A layer that neither shrinks nor stretches much, and can be inverted: out of any 1-Lipschitz module of equal input and output shape."""

import math
from fractions import Fraction

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import InvalidScaling, InvalidWeight
from sdplip.nn.given import module, number

# Note [bi-Lipschitz]. F(x) = a x + r N(x) with a = (mu + nu) / 2, r = (nu - mu) / 2 and N of the constant c: <dF, dx> >= (a - r c) |dx|^2
# and |dF| <= (a + r c) |dx|. If a > r c, F maps onto the whole space: it is injective and closed because |dF| >= (a - r c) |dx|, and open
# by invariance of domain. Conversely F is mu-monotone and nu-Lipschitz with a cocoercive F - mu exactly if (F - a) / r is nonexpansive
# (Wang, Dvijotham, Manchester 2024: H = r (I + N) is cocoercive iff N is nonexpansive), so the layers of that paper are of this form.


class BiLipschitz(nn.Module):
    r"""$F(x) = \frac{\mu + \nu}{2} x + \frac{\nu - \mu}{2} f(x)$, see Note [bi-Lipschitz]: with a 1-Lipschitz $f$

    $$\mu \lVert x - y \rVert \le \lVert F(x) - F(y) \rVert \le \nu \lVert x - y \rVert, \qquad
    \langle F(x) - F(y), x - y \rangle \ge \mu \lVert x - y \rVert^2,$$

    and $F$ is invertible (`sdplip.robustness.inverse`). With `ResidualLinear` or `ResidualConv2d` as $f$ it is
    $\nu x - (\nu - \mu) W T^{-1} \sigma(W^\top x + b)$, for monotone $\sigma$ the gradient of a strongly convex function. A sequence of such layers
    and of orthogonal ones is invertible, too; its constants multiply (`lipschitz`, `lower_lipschitz`).

    Source: Wang, Dvijotham, Manchester, Monotone, Bi-Lipschitz, and Polyak-Lojasiewicz Networks (ICML 2024), in centre form.

    Attributes:
        inner: $f$. Whatever constant $c$ is proven of it, the constants are $a \mp r c$.
        mu, nu: as given.
        centre, radius: $a$ and $r$, numbers of single precision with $\mu \le a - r$ and $a + r \le \nu$, so that every format multiplies
            with the same ones.

    Raises:
        InvalidScaling: not `0 < mu < nu`, or no single-precision numbers between them.
        InvalidProblem: `inner` is no module.
        InvalidWeight: in `forward`, `inner` changes the shape.
    """

    def __init__(self, inner: nn.Module, mu: float, nu: float) -> None:
        super().__init__()
        self.inner = module("inner", inner)
        self.mu, self.nu = number("mu", mu, InvalidScaling), number("nu", nu, InvalidScaling)
        if not 0 < self.mu < self.nu < math.inf:
            raise InvalidScaling(
                f"A bi-Lipschitz layer needs `0 < mu < nu`, but has mu = {self.mu} and nu = {self.nu}."
            )
        self.centre, self.radius = _inside(self.mu, self.nu)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        y = self.inner(x)
        if y.shape != x.shape:
            raise InvalidWeight(
                f"The inner module of a bi-Lipschitz layer must keep the shape, but makes {tuple(y.shape)} of {tuple(x.shape)}."
            )
        return x * self.centre + y * self.radius

    def extra_repr(self) -> str:
        return f"mu={self.mu}, nu={self.nu}"


def _inside(mu: float, nu: float) -> tuple[float, float]:
    """Centre and radius in single precision; the interval of that centre and radius lies in [mu, nu]."""
    with np.errstate(over="ignore"):
        a = np.float32(mu / 2 + nu / 2)
    if np.isfinite(a):
        r = np.float32(min(float(a) - mu, nu - float(a)))
        for _ in range(2):
            if (
                r > 0
                and Fraction(mu) <= Fraction(float(a)) - Fraction(float(r))
                and (Fraction(float(a)) + Fraction(float(r)) <= Fraction(nu))
            ):
                return float(a), float(r)
            r = np.nextafter(r, np.float32(0))
    raise InvalidScaling(
        f"Between mu = {mu} and nu = {nu} lie no two numbers of single precision that a layer could multiply with. Choose them farther"
        " apart, and rescale what is larger than 1e38."
    )

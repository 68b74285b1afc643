r"""Ascent on low-rank factors of the dual: maximise $\langle V, G V\rangle$ over V with unit rows (Burer, Monteiro 2003).

With r columns, $r (r + 1) / 2 > n$, a generic G has no local maximum but the global one (Boumal, Voroninski, Bandeira 2016).
The mixing method (Wang, Chang and Kolter 2017) ascends row by row and converges linearly; L-BFGS on all rows at once costs
the same product with G a step, and needs a third of the steps for a gap of 1e-3, a tenth for 1e-6.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jaxtyping import Float

from sdplip.condition import Array
from sdplip.convolution.kernels import namespace

Rows = Float[Array, "n r"]
"""Of NumPy or of torch: one text for both."""

Apply = Callable[[Float[Array, "n k"]], Float[Array, "n k"]]

MEMORY = 5
"""Pairs of L-BFGS; 10 or 20 need as many steps, and moving the pairs along the spheres saves none."""


@dataclass(frozen=True, eq=False)
class Ascent:
    """Unit rows V with the product G V, and the Riemannian gradient relative to it."""

    V: Rows
    GV: Rows
    value: float
    slope: float


def ascent(apply: Apply, V: Rows, floor: Float[Array, " n"]) -> Iterator[Ascent]:
    r"""Riemannian L-BFGS from V, preconditioned with $1 / t_i$, $t_i = \langle v_i, (GV)_i\rangle$.

    `floor` is the diagonal of G: $t_i$ is not below it at a maximum. It ends where rounding allows no ascent.
    """
    pairs: list[tuple[Rows, Rows, float]] = []
    GV, floor = apply(V), floor[:, None]
    t = _inner(V, GV)
    gradient, value = t * V - GV, float(t.sum())  # of -value / 2
    while True:
        yield Ascent(V, GV, value, norm(gradient) / norm(GV))
        scale = 1 / namespace(t).maximum(t, floor)
        found = None
        for memory in (pairs, []) if pairs else ([],):
            d = -_two_loops(memory, gradient, scale)
            d -= _inner(V, d) * V
            found = _search(apply, V, d, value, 2 * float((d * gradient).sum()))
            if found is not None:
                break
        if found is None:
            return
        V_new, GV = found
        t = _inner(V_new, GV)
        new = t * V_new - GV
        s, y = V_new - V, new - gradient
        V, gradient, value = V_new, new, float(t.sum())
        curvature = float((s * y).sum())
        if curvature > 1e-12 * norm(s) * norm(y):
            pairs = [*pairs, (s, y, 1 / curvature)][-MEMORY:]


def unit_rows(V: Rows) -> Rows:
    """Rows divided by their lengths."""
    return V / lengths(V)[:, None]


def lengths(V: Rows) -> Float[Array, " n"]:
    """Of the rows."""
    return (V * V).sum(-1) ** 0.5


def norm(V: Rows) -> float:
    """Of all entries."""
    return float((V * V).sum()) ** 0.5


def _search(apply: Apply, V: Rows, d: Rows, value: float, slope: float) -> tuple[Rows, Rows] | None:
    """The first of the steps 1, 1/2, 1/4, ... along d that ascends enough (Armijo), with its product with G."""
    step = 1.0
    while slope < 0 and step > 1e-3:
        U = unit_rows(V + step * d)
        GU = apply(U)
        if float((U * GU).sum()) >= value - 1e-4 * step * slope:
            return U, GU
        step /= 2
    return None


def _two_loops(pairs: list[tuple[Rows, Rows, float]], gradient: Rows, scale: Float[Array, "n 1"]) -> Rows:
    """The inverse quasi-Newton matrix times the gradient (Nocedal and Wright, Algorithm 7.4)."""
    q, weights = gradient * 1.0, []
    for s, y, rho in reversed(pairs):
        weights.append(rho * float((s * q).sum()))
        q -= weights[-1] * y
    q *= scale
    if pairs:
        _, y, rho = pairs[-1]
        q /= rho * float((y * y * scale).sum())
    for (s, y, rho), weight in zip(pairs, reversed(weights), strict=True):
        q += (weight - rho * float((y * q).sum())) * s
    return q


def _inner(U: Rows, V: Rows) -> Float[Array, "n 1"]:
    return (U * V).sum(-1)[:, None]

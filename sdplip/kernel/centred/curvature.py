r"""How far a margin can fall on a ball, from its gradient at the centre and its curvature: networks of smooth functions.

For a row c let $m = c f$. Along a segment from the centre x, $m(x + \delta) \ge m(x) - |\nabla m(x)|\,|\delta| - \tfrac12 M |\delta|^2$ where
$-M$ is below every eigenvalue of the second derivative on the ball, so m falls by at most $(|\nabla m(x)| + M R / 2)\,|\delta|$ for $|\delta| \le R$.

With the Jacobians $J_k$ of the arguments of the elementwise functions $\varphi_k$, and the gradients $g_k$ of m with respect to their values, ::

    m'' = sum_k J_k' diag(g_k phi_k'') J_k ,   hence   M = sum_k | diag(w_k)^(1/2) J_k |^2 ,   w_k = max(0, -min(g_k phi_k'')) ,

for one hidden layer $\lambda_{\max}(W^\top \mathrm{diag}(w) W)$. The arguments, the slopes and so the $\varphi_k''$ and $J_k$ are bounded on the
ball as increments are (`ball`, with slopes of tangents in place of secants: the norms are those of its sources), the $g_k$ by intervals on the way back.
What counts of $m''(x + t \delta)$ is its mean with the weight $2 (1 - t)$: where the
argument is linear in the input, so that $J_k$ is one matrix, $w_k$ is a mean of its values on parts of the way (`SHARES`).
Piecewise linear functions count where they do not bend on the ball. Composition of curvature as by Entesari, Sharifi and Fazlyab (2024), with
the signs of one margin and the ranges of a ball.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sdplip.arithmetic.matrix import Enclosure, enclose
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, up
from sdplip.arithmetic.second import SECOND, second_derivatives
from sdplip.kernel.centred.ball import ONCE, Argument, Around, Vector
from sdplip.kernel.centred.increments import chosen, scaled
from sdplip.kernel.reach.linear import Linear
from sdplip.network import Activation, Concatenate, Network, Sum

SHARES = tuple((k / 8, ((9 - k) / 8) ** 2 - ((8 - k) / 8) ** 2) for k in range(1, 9))
r"""Ends of eight parts of the way and their weights, $\int 2 (1 - t) dt$ over each: exact."""


def smooth(network: Network) -> bool:
    """Whether a network has functions whose second derivative is known."""
    return any(isinstance(node.op, Activation) and node.op.name in SECOND for node in network.nodes)


@dataclass(frozen=True, eq=False)
class Bends:
    """The curvature on a ball.

    Attributes:
        ball: with the slopes of tangents.
        flat: the ball of radius 0, whose gains are lengths of gradients.
    """

    ball: Around
    flat: Around

    @staticmethod
    def of(around: Around) -> "Bends":
        """On the ball of `around`.

        Raises:
            NotProvable: as `Around.of`.
        """
        centre = around.centre
        return Bends(Around.of(centre, around.radius, tangents=True), Around.of(centre, 0.0))

    @np.errstate(all="ignore")
    def fall(self, row: Vector) -> float:
        r"""L with $c f(x') \ge c f(x) - L |x' - x|$ on the ball for the row c; infinite where none is proven."""
        least = float(self.flat.gains(row[None])[0])
        found = up(least + up(up(self.curvature(row) * self.ball.radius) / 2)) if self.ball.radius else least
        return found if np.isfinite(found) else np.inf

    @np.errstate(all="ignore")
    def curvature(self, row: Vector) -> float:
        r"""M: no second derivative of $c f$ along a line is below $-M$ on the ball; infinite where none is proven."""
        gradients = self._back(row)
        if gradients is None:
            return np.inf
        total = 0.0
        for k, g in gradients.items():
            total = up(total + self._part(k, g))
        return total if np.isfinite(total) else np.inf

    def _part(self, k: int, g: Enclosure) -> float:
        """The share of node k: its norm squared."""
        seen, slopes = self.ball.arguments[k], self.ball.slopes[k]
        op = self.ball.centre.front.network.made(k).op
        assert isinstance(op, Activation)
        if set(seen.z.M) <= {0}:
            parts = [share * _weights(op, slopes, g, _within(seen, t)) for t, share in SHARES]
            w = np.sum(parts, 0) * (1 + 32 * UNIT) + 32 * TINY
            w = np.where(np.max(parts, 0) > 0, w, 0.0)
        else:
            w = _weights(op, slopes, g, (seen.low, seen.high))
        if not np.isfinite(w).all():
            return np.inf
        some = np.flatnonzero(w)
        root = np.sqrt(w[some]) * (1 + 4 * UNIT) + TINY
        each = root * seen.each[some] * ONCE + TINY
        length = self.ball.length_of(scaled(root, chosen(seen.z, some)), each) if len(some) else 0.0
        return up(length * length)

    def _back(self, row: Vector) -> dict[int, Enclosure] | None:
        """What the gradient of the row with respect to the value of each function can be; None behind other nodes."""
        front = self.ball.centre.front
        network = front.network
        at, found = {network.output: Enclosure.exact(np.asarray(row, np.float64)[None])}, {}
        for k in range(network.output, 0, -1):
            if k not in at or k in front.known:
                continue
            g, node = at.pop(k), network.made(k)
            if k in front.linear:
                back: Sequence[Enclosure] = (_adjoint(front.linear[k], g),)
            elif isinstance(node.op, Sum):
                back = [g if sign > 0 else -g for sign in node.op.signs]
            elif isinstance(node.op, Concatenate):
                ends = [0, *np.cumsum(node.op.lengths).tolist()]
                back = [g[:, a:b] for a, b in pairwise(ends)]
            elif isinstance(node.op, Activation):
                found[k] = g
                back = (g * _slopes(self.ball.slopes[k]),)
            else:
                return None
            for i, part in zip(node.inputs, back, strict=True):
                at[i] = at[i] + part if i in at else part
        return found


def _within(seen: Argument, t: float) -> tuple[Vector, Vector]:
    """Ends of the argument on the part t of the way from the centre."""
    low, high = (seen.near[0] - seen.low) * t, (seen.high - seen.near[1]) * t
    pad = 4 * UNIT * (abs(seen.near[0]) + abs(seen.near[1]) + low + high) + 4 * TINY
    a, b = seen.near[0] - low - pad, seen.near[1] + high + pad
    return np.where(np.isfinite(a), a, -np.inf), np.where(np.isfinite(b), b, np.inf)


def _slopes(op: Activation) -> Enclosure:
    """Of the tangents on the ball."""
    middle = op.alpha / 2 + op.beta / 2
    half = np.maximum(op.beta - middle, middle - op.alpha) * (1 + 4 * UNIT) + 4 * TINY * (op.alpha < op.beta)
    return enclose(middle[None], half[None])


def _adjoint(layer: Linear, g: Enclosure) -> Enclosure:
    r"""$A^\top g$: sums of `adjoint_terms` products, see `kernel.reach.linear`."""
    op, size = layer.op, abs(g.mid)
    radius = np.broadcast_to(g.radius(), g.mid.shape)
    rounded = layer.relative(op.adjoint_terms) * (layer.absolute.adjoint(size) * GENEROUS)
    spread = layer.absolute.adjoint(radius) * (1 + layer.relative(op.adjoint_terms)) * GENEROUS
    most = 1 + float((size + radius).max(initial=0.0))
    sums = layer.absolute.adjoint(np.ones(g.mid.shape)) * GENEROUS
    lost = 8 * TINY * ((op.adjoint_terms + 2) * most + sums)
    return enclose(op.adjoint(g.mid), (rounded + spread + lost) * GENEROUS)


def _weights(op: Activation, slopes: Activation, g: Enclosure, seen: tuple[Vector, Vector]) -> Vector:
    r"""At least $\max(0, -\min g \varphi'')$ of every entry on the ball; infinite where nothing is known."""
    ends = second_derivatives(op.name, *seen, **op.parameters) if op.name else None
    straight = slopes.alpha == slopes.beta
    if ends is None:
        return np.where(straight, 0.0, np.inf)
    low, high = (v[0] for v in g.ends())
    least = np.minimum.reduce([a * b for a in (low, high) for b in ends])
    w = np.where(least < 0, -least * (1 + 4 * UNIT) + 4 * TINY, 0.0)
    return np.where(np.isfinite(least), w, np.inf)

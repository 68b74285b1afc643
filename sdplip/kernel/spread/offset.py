r"""The offset of a linear bound of a layer's activations on a ball that a box cuts, one scalar a row, rounding included.

Statement. Let $\varphi(z) = s^- z$ for $z \le 0$ and $s^+ z$ for $z \ge 0$, entry by entry (ReLU, leaky ReLU, absolute values), on
the z with $\lVert z - \hat z \rVert \le \rho$ and $l \le z \le u$. For every row c, every g and **every** $\lambda \ge 0$,

$$c^\top \varphi(z) \le g^\top z + \tfrac{\lambda}{2} \rho^2 + \sum_i \max_{l_i \le z_i \le u_i} \Bigl( c_i \varphi(z_i) - g_i z_i -
\tfrac{\lambda}{2} (z_i - \hat z_i)^2 \Bigr).$$

Proof: $\frac\lambda2 (\rho^2 - \lVert z - \hat z \rVert^2) \ge 0$ on the ball, so adding it loses nothing; what is left is a sum of functions
of one entry each. On a side of 0 such a function is a parabola $a (\hat z + t) - \frac\lambda2 t^2$ in $t = z - \hat z$ with $a = c s^\pm - g$;
its largest value is at $t = a / \lambda$, or at the end next to it.

Without the box and of a ReLU that is the offset of SDP-CROWN (Chiu, Chen et al., ICML 2025, arXiv 2506.06665, there with the signs of a
lower bound): $\frac12 (\lambda (\rho^2 - \lVert \hat z \rVert^2) + \lVert \phi \rVert^2 / \lambda)$ with
$\phi_i = \max(c_i - g_i + \lambda \hat z_i, g_i - \lambda \hat z_i, 0)$. With $\lambda = 0$ it is the offset of CROWN, from the box alone; the
smaller of both counts, so none is worse. That g is free takes in the slopes of alpha-CROWN and, where a split has cut the box at
0, the multipliers of beta-CROWN.

**Rounding.** $\lambda$, g, $\hat z$ and $\rho$ are doubles, so the statement is about them. The computed a is off by at most $2u (|c s| + |a|)$,
which the largest $|z_i|$ multiplies. A computed $t$ that is not at an end is within u of $a / \lambda$, which costs
$\frac\lambda2 u^2 t^2$; division is monotone, so that it is clipped at the end where the exact one is. Ends are rounded outward.
"""

from dataclasses import dataclass, replace

import numpy as np

from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.shapes import Float, Int

Vector = Float[np.ndarray, " n"]
Rows = Float[np.ndarray, "rows n"]
Scales = Float[np.ndarray, " rows"]

STEPS = 4
"""Of the search for a scalar where none is given."""


@dataclass(frozen=True, eq=False)
class Cap:
    r"""Where the arguments z of an activation with one knot at 0 are: $\lVert z -$ `center` $\rVert \le$ `radius`, `low` $\le z \le$ `high`.

    Attributes:
        left, right: slopes below and above 0.
        free: the entries whose line is chosen; each other one is on one side of 0 and linear.
    """

    center: Vector
    radius: float
    low: Vector
    high: Vector
    left: Vector
    right: Vector
    free: Int[np.ndarray, " some"]

    @staticmethod
    def of(center: Vector, radius: float, low: Vector, high: Vector, left: Vector, right: Vector) -> "Cap":
        """With the entries that may be on both sides as the free ones."""
        free = np.flatnonzero((low < 0) & (high > 0) & (left != right))
        return Cap(center, radius, low, high, left, right, free)

    def cut(self, at: int, on: bool) -> "Cap":
        """With entry `at` not negative, or not positive; its line stays free."""
        low, high = self.low.copy(), self.high.copy()
        if on:
            low[at] = max(low[at], 0.0)
            high[at] = max(high[at], 0.0)
        else:
            high[at] = min(high[at], 0.0)
            low[at] = min(low[at], 0.0)
        return replace(self, low=low, high=high, free=np.union1d(self.free, [at]))

    @property
    def sides(self) -> Vector:
        """The slope of each entry that is not free."""
        return np.where(self.low >= 0, self.right, self.left)


@np.errstate(all="ignore")  # what is not finite proves nothing
def offset(cap: Cap, C: Rows, G: Rows, scale: Scales | None) -> Vector:
    """At least the largest $c^\\top \\varphi(z) - g^\\top z$ over the entries that are free, of each row of `C` and `G` there.

    Args:
        scale: the scalars, not negative; None searches for good ones.
    """
    if not len(cap.free):
        return np.zeros(len(C))
    parts = _Parts.of(cap, C, G)
    found = parts.above(np.zeros(len(C)))
    scale = parts.scales() if scale is None else scale
    return np.fmin(found, parts.above(scale)) if (scale > 0).any() else found


@dataclass(frozen=True, eq=False)
class _Parts:
    """Both sides of each free entry: slopes with their errors, and the ends of t."""

    cap: Cap
    center: Vector
    size: Vector
    sides: tuple[tuple[Rows, Rows, Vector, Vector], ...]

    @staticmethod
    def of(cap: Cap, C: Rows, G: Rows) -> "_Parts":
        at = cap.free
        center, low, high = cap.center[at], cap.low[at], cap.high[at]
        pad = 2 * UNIT * (np.maximum(abs(low), abs(high)) + abs(center)) + 2 * TINY
        first, last = low - center - pad, high - center + pad
        right = np.maximum(first, -center), np.where(high >= 0, last, -np.inf)
        left = np.where(low <= 0, first, np.inf), np.minimum(last, -center)
        found = []
        for slope, (start, end) in ((cap.right[at], right), (cap.left[at], left)):
            own = C * slope
            a = own - G
            found.append((a, 2 * UNIT * (abs(own) + abs(a)) + 4 * TINY, start, end))
        return _Parts(cap, center, np.maximum(abs(low), abs(high)), tuple(found))

    def above(self, scale: Scales) -> Vector:
        """The offset with these scalars; infinite where doubles do not reach."""
        half = (scale / 2)[:, None]
        best, size = np.full((len(scale), len(self.center)), -np.inf), 0.0
        for a, error, start, end in self.sides:
            t = self._furthest(a, scale, start, end)
            steep, far = a * self.center, half * t
            value = steep + (a - far) * t
            weight = abs(steep) + (abs(a) + abs(far)) * abs(t)
            lost = (
                error * self.size
                + 8 * UNIT * weight
                + 16 * TINY * _large(1 + abs(a) + scale[:, None], t, self.center)
            )
            there = start <= end
            best = np.where(there, np.maximum(best, value + lost * GENEROUS), best)
            size = np.maximum(size, np.where(there, weight + abs(value) + lost, 0.0))
        n, ball = best.shape[1], scale / 2 * self.cap.radius * self.cap.radius
        found = best.sum(1) + ball
        pad = gamma(n + 8) * (np.sum(size, 1) + ball) + 4 * (n + 2) * TINY * (1 + scale + self.cap.radius)
        found = found + pad * GENEROUS
        return np.where(np.isfinite(found) & (scale >= 0), found, np.inf)

    def scales(self) -> Scales:
        """Scalars near the best: where the largest z is as far from the centre as the ball reaches."""
        (a, _, *_), (b, _, *_) = self.sides
        radius = max(self.cap.radius, TINY)
        scale = np.sqrt((np.maximum(abs(a), abs(b)) ** 2).sum(1)) / radius
        for _ in range(STEPS):
            scale = scale * np.clip(np.sqrt(self._reach(scale)) / radius, 0.05, 20.0)
        return np.where(np.isfinite(scale), scale, 0.0)

    def _reach(self, scale: Scales) -> Vector:
        """The squared distance of the largest z from the centre, about."""
        value, far = np.full((2, len(scale), len(self.center)), -np.inf)
        for a, _, start, end in self.sides:
            t = self._furthest(a, scale, start, end)
            own = np.where(start <= end, a * (self.center + t) - (scale / 2)[:, None] * t * t, -np.inf)
            far = np.where(own > value, t, far)
            value = np.maximum(value, own)
        return (far**2).sum(1)

    @staticmethod
    def _furthest(a: Rows, scale: Scales, start: Vector, end: Vector) -> Rows:
        """The t of the largest value, between the ends."""
        t = a / scale[:, None]
        t = np.where(np.isnan(t), start, t)  # a and the scalar are 0: every t is as good
        return np.minimum(np.maximum(t, start), end)


def _large(factor: Rows, t: Rows, center: Vector) -> Rows:
    """What `TINY` is multiplied by where a product of up to three factors underflows."""
    return factor * (1 + abs(t) + abs(center)) ** 2

r"""Increments from a centre within a ball, node by node.

With $D = d + S$, $|S| \le h$, increments behind neurons are $d\,\Delta z + g s$ with $s = S g^{-1} \Delta z$, $g = h^{1/2}$: a
new source of columns g with $|s| \le q |dx|$, $|s_n| \le p_n |dx|$. An entry of an increment is at most the length of its row of
A plus, for each source, the smaller of q times the length of its row of M and $|M| p$, times $|dx|$. The length q of $g \Delta z$
comes from one norm of all sources of its rows, weighted, which the prover proves. What is not elementwise and has a constant c
adds its outputs as a source of their own, $|s| \le c\,|\Delta z|$.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sdplip.arithmetic.matrix import lengths
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.arithmetic.semidefinite import slack
from sdplip.errors import NotProvable
from sdplip.kernel.centred.front import Centre, linear_step
from sdplip.kernel.centred.increments import Increments, chosen, mapped, scaled
from sdplip.kernel.centred.slopes import secants
from sdplip.kernel.condition.dense import holds
from sdplip.kernel.reach.activations import quotients
from sdplip.kernel.reach.linear import Linear
from sdplip.network import Activation, Dense, Grouped, Network, Norms, Sort
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]
Matrix = Float[np.ndarray, "m n"]


ONCE = 1 + 2.0**-44
"""Covers a few hundred roundings."""


@dataclass(frozen=True, eq=False)
class _Source:
    """Numbers s with $|s| \\le$ `length` |dx| and $|s_n| \\le$ `each` |dx|."""

    length: float
    each: Vector


@dataclass(frozen=True, eq=False)
class Argument:
    """The increments of an argument of elementwise functions on a ball, how far each moves, and between which ends it lies at the
    centre and on the ball."""

    z: Increments
    each: Vector
    near: tuple[Vector, Vector]
    low: Vector
    high: Vector


@dataclass(eq=False)
class Around:
    """The ball around a centre: increments of the output, and the slopes of secants.

    With `tangents` the slopes are all derivatives on the ball, so that increments between any two of its points, and Jacobians, are
    bounded; then `arguments` are kept.
    """

    centre: Centre
    radius: float
    tangents: bool = False
    arguments: dict[int, Argument] = field(default_factory=dict)
    sources: dict[int, _Source] = field(default_factory=dict)
    slopes: dict[int, Activation] = field(default_factory=dict)
    output: Increments | None = None

    @staticmethod
    @np.errstate(all="ignore")  # what is not finite is infinite, and proves nothing
    def of(centre: Centre, radius: float, *, tangents: bool = False) -> "Around":
        """The increments on the ball of this radius.

        Raises:
            NotProvable: dense matrices that are too large, a radius that is none.
        """
        if not (np.isfinite(radius) and radius >= 0):
            raise NotProvable(f"The radius of a ball must be finite and not negative, but is {radius}.")
        ball, front = Around(centre, float(radius), tangents), centre.front
        found: dict[int, Increments] = dict(front.known)
        last = [max(users, default=0) for users in front.network.users]
        for k, node in enumerate(front.network.nodes, 1):
            if k in found or not all(i in found for i in node.inputs):
                continue  # a part of the front that nothing needs any more
            made = linear_step(k, front.network, front.linear, found)
            found[k] = ball._nonlinear(k, node.op, node.inputs[0], found) if made is None else made
            for i in node.inputs:
                if last[i] == k:
                    found.pop(i, None)
        ball.output = found[front.network.output]
        return ball

    @np.errstate(all="ignore")
    def gains(self, rows: Matrix | None = None) -> Vector:
        r"""L with $|c (f(x') - f(x))| \le L |x' - x|$ on the ball for each row c of `rows`, or each output; infinite where none
        is proven."""
        assert self.output is not None
        z = self.output if rows is None else mapped(Linear(Dense(rows)), self.output)
        found = self._entries(z)
        return np.where(np.isfinite(found), found, np.inf)

    @np.errstate(all="ignore")
    def length(self) -> float:
        r"""L with $\lVert f(x') - f(x) \rVert \le L \lVert x' - x \rVert$ on the ball."""
        assert self.output is not None
        found = self.length_of(self.output, self._entries(self.output))
        return found if np.isfinite(found) else np.inf

    def network(self) -> Network:
        """The network with the slopes of secants: bounds of it for all inputs hold for increments from the centre."""
        of = self.centre.front.network
        nodes = [replace(node, op=self.slopes.get(k, node.op)) for k, node in enumerate(of.nodes, 1)]
        return replace(of, nodes=tuple(nodes))

    def _nonlinear(self, k: int, op: object, i: int, found: Mapping[int, Increments]) -> Increments:
        z = found[i]
        each = self._entries(z)
        if isinstance(op, Activation):
            return self._slopes(k, op, i, z, each)
        if not isinstance(op, Sort | Norms | Grouped):
            raise NotProvable("The values of an implicit layer around a point are not known here.")
        members = op.groups
        constant = op.constant if isinstance(op, Grouped) else 1.0
        own = lengths(each[members]) * constant * ONCE
        length = self.length_of(chosen(z, members.reshape(-1)), each[members.reshape(-1)]) * constant * ONCE
        if isinstance(op, Norms):
            self.sources[k] = _Source(length, own)
            return Increments({k: np.eye(op.outputs)}, np.zeros(op.outputs))
        self.sources[k] = _Source(length, np.repeat(own, members.shape[1]))
        M = {source: columns.copy() for source, columns in z.M.items()}
        for columns in M.values():
            columns[:, members] = 0.0
        M[k] = np.zeros((members.size, op.outputs))
        M[k][np.arange(members.size), members.reshape(-1)] = 1.0
        error = z.error.copy()
        error[members] = 0.0
        return Increments(M, error)

    def _slopes(self, k: int, op: Activation, i: int, z: Increments, each: Vector) -> Increments:
        near = self.centre.values[i]
        far = each * self.radius * ONCE
        pad = 4 * UNIT * (np.maximum(abs(near[0]), abs(near[1])) + far) + 4 * TINY
        low, high = near[0] - far - pad, near[1] + far + pad
        low, high = np.where(np.isfinite(low), low, -np.inf), np.where(np.isfinite(high), high, np.inf)
        alpha, beta = quotients(op, low, high) if self.tangents else secants(op, near, low, high)
        if self.tangents:
            self.arguments[k] = Argument(z, each, near, low, high)
        self.slopes[k] = Activation("", op.length, {}, alpha, beta)
        d = alpha / 2 + beta / 2
        h = np.where(alpha < beta, np.maximum(beta - d, d - alpha) * (1 + 4 * UNIT) + 4 * TINY, 0.0)
        bent = np.flatnonzero(h)
        after = scaled(d, z)
        if not len(bent):
            return after
        g = np.sqrt(h[bent]) * (1 + 4 * UNIT)
        some = chosen(z, bent)
        p = g * each[bent] * ONCE + TINY
        length = self.length_of(scaled(g, some), p)
        self.sources[k] = _Source(length, p)
        M = dict(after.M)
        M[k] = np.zeros((len(bent), len(d)))
        M[k][np.arange(len(bent)), bent] = g
        return Increments(M, after.error)

    def _entries(self, z: Increments) -> Vector:
        """How far each entry moves, per unit of distance."""
        found = np.zeros(len(z.error))
        for source, M in z.M.items():
            if source == 0:
                found = found + z.rows[source]
            else:
                known = self.sources[source]
                lost = 4 * TINY * len(M) * (1 + float(known.each.max(initial=0.0)) + z.largest)
                sums = (known.each @ abs(M)) * (1 + gamma(len(M) + 8)) + lost
                found = found + np.fmin(z.rows[source] * known.length + 4 * TINY, sums)
        return (found + z.error * self._total() * GENEROUS) * ONCE + TINY

    def length_of(self, z: Increments, each: Vector) -> float:
        """How long the increment gets, per unit of distance, where its entries are at most `each`."""
        whole = float(lengths(each[None])[0])
        off = (float(lengths(z.error[None])[0]) + 4 * TINY * z.count) * self._total() * GENEROUS + TINY
        parts = [(M, 1.0 if source == 0 else self.sources[source].length) for source, M in z.M.items()]
        parts = [(M, q) for M, q in parts if q > 0 and M.any()]
        if not parts:
            return min(whole, off)
        weight = np.array([(q / _estimate(M)) ** 0.5 for M, q in parts] if len(parts) > 1 else [1.0])
        stack = np.concatenate([w * M for w, (M, _) in zip(weight, parts, strict=True)])
        if not (np.isfinite(stack).all() and np.isfinite(weight).all() and (weight > 0).all()):
            return whole
        root = float(np.sqrt(np.sum((np.array([q for _, q in parts]) / weight) ** 2))) * ONCE + TINY
        lost = 4 * TINY * stack.size * (1 + float(weight.max()) + z.largest)
        rounded = 2 * UNIT * float(lengths(stack.reshape(1, -1))[0]) + lost
        found = (root * (norm_above(stack) + rounded) + off) * ONCE
        return min(whole, found) if np.isfinite(found) else whole

    def _total(self) -> float:
        return (1.0 + sum(source.length for source in self.sources.values())) * GENEROUS


@np.errstate(all="ignore")
def norm_above(A: Matrix) -> float:
    r"""A proven upper bound of $\lVert A \rVert_2$: little above the computed norm, or the root of the sum of squares."""
    frobenius = float(lengths(A.reshape(1, -1))[0])
    if not np.isfinite(frobenius) or not A.any():
        return frobenius
    e = int(np.clip(np.frexp(frobenius)[1], -1000, 1000))
    scaled = np.ldexp(A, -e)  # exact, but for entries that vanish
    try:
        gram = scaled @ scaled.T if len(A) < A.shape[1] else scaled.T @ scaled
        least = float(np.sqrt(max(np.linalg.eigvalsh(gram)[-1], 0.0)))
    except np.linalg.LinAlgError:
        return frobenius
    trace = float(np.trace(gram)) / max(least**2, TINY)
    likely = slack(len(gram)) / 2 + gamma(max(A.shape) + 4) * trace
    for room in (min(likely, 1e-9), 1e-9, 1e-6, 1e-3):
        c = least * (1 + room)
        if holds(scaled, np.ones(scaled.shape[1]), c):
            return min(float(np.ldexp(c + 4 * TINY * A.size, e)) * ONCE + TINY, frobenius)
    return frobenius


def _estimate(M: Matrix) -> float:
    """About the norm, by a few power iterations. Only weights come from it."""
    v, size = np.cos(np.arange(M.shape[1]) * 2.399963 + 0.5) + 1e-3, 0.0
    for _ in range(6):
        u = M @ v
        size = float(np.linalg.norm(u) / np.linalg.norm(v))
        v = u @ M
        if not v.any():
            break
    return max(size, float(abs(M).max()))

r"""How far outputs can move from their values at the centre of a ball, per unit of distance: constants for radii.

For $|x' - x| \le r$ every neuron obeys $\varphi(z') - \varphi(z) = D (z' - z)$, D the slope of the secant from the centre's z:
these are fewer slopes than occur on the ball. With $D = d + S$, $|S| \le h$, increments from the centre are

    z' - z = A dx + sum_j M_j s_j ,    |s_j| <= q_j |dx| ,    |s_j|_n <= p_jn |dx|

with one block $s_j = S g^{-1} (z_j' - z_j)$, $g = h^{1/2}$, a layer of bent neurons. An entry of an increment is at most the
length of its row of A plus, for each block, the smaller of $q_j$ times the length of the row of $M_j$ and $|M_j| p_j$, times
$|dx|$. The length $q_j$ of $g (z_j' - z_j)$ comes from one norm of all blocks of its rows, weighted; `certify` proves it. Layer
by layer this bounds the arguments of the next neurons, hence their slopes, up to the output. Blocks stand side by side in one
matrix, whose rows are true to within `error` in length. `docs/rounding-systems.md`, section 4.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from sdplip.certificates.functions import FUNCTIONS, PIECES
from sdplip.certificates.increments import Front, Increments, added, halved, lengths, mapped, values
from sdplip.certificates.network import spectral_norm_above
from sdplip.certificates.rounding import GENEROUS, TINY, UNIT
from sdplip.certificates.system import Layers, Map, Skip, Slope, Sort
from sdplip.errors import InvalidProblem, NotProvable

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


def centred_gains(
    network: Front, x: Vector, radius: float, rows: Float[np.ndarray, "k outputs"]
) -> Float[np.ndarray, " k"]:
    r"""L with $|c (f(x') - f(x))| \le L |x' - x|$ for all $|x' - x| \le$ `radius` and each row c of `rows`, rounding included.

    Raises:
        InvalidProblem: an activation of which only the slopes are known, groups of more than two sorted neurons, a shift
            that is known up to rounding only.
    """
    return centred(network, x, radius, rows)[0]


@np.errstate(
    over="ignore", invalid="ignore", divide="ignore"
)  # what is not finite is infinite, and proves nothing
def centred(network: Front, x: Vector, radius: float, rows: Matrix) -> tuple[Vector, Vector]:
    r"""As `centred_gains`, and numbers that $c f(x)$ is not below; minus infinity where doubles do not reach.

    Raises:
        InvalidProblem: as `centred_gains`.
    """
    ball = _Ball(network.A.shape[1], float(radius))
    z = Increments(np.asarray(x, np.float64), np.zeros(len(x)), network.A, network.error)
    for layer in network.maps:
        z = replace(z, **values(layer, z.center, z.slop))
    z = mapped(Map(rows), ball.through(network.rest, z))
    found, least = ball.entries(z), np.nextafter(z.center - z.slop, -np.inf)
    return np.where(np.isfinite(found), found, np.inf), np.where(np.isfinite(least), least, -np.inf)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def secant_layers(network: Front, x: Vector, radius: float) -> Layers:
    """The network with the slopes of secants from x within the ball: bounds of these layers hold for increments from x.

    Raises:
        InvalidProblem: as `centred_gains`.
    """
    ball = _Ball(network.A.shape[1], float(radius))
    z = Increments(np.asarray(x, np.float64), np.zeros(len(x)), network.A, network.error)
    for layer in network.maps:
        z = replace(z, **values(layer, z.center, z.slop))
    ball.through(network.rest, z)
    return (*network.maps, *_with_slopes(network.rest, iter(ball.slopes)))


def _with_slopes(layers: Layers, slopes: Iterator[Slope]) -> Iterator[Map | Slope | Sort | Skip]:
    for layer in layers:
        if isinstance(layer, Slope):
            yield next(slopes)
        elif isinstance(layer, Skip):
            yield Skip(tuple(_with_slopes(layer.branch, slopes)))
        elif isinstance(layer, Sort) and layer.groups.size and layer.groups.shape[1] == 2:
            inside = next(slopes)
            apart, together, _ = halved(layer, len(inside.alpha))
            yield from (apart, inside, together)
        else:
            yield layer


@dataclass(frozen=True, eq=False)
class _Block:
    """Columns of bent neurons: `length` is q, `each` is p."""

    start: int
    length: float
    each: Vector

    def of(self, A: Matrix) -> Matrix:
        return A[:, self.start : self.start + len(self.each)]


@dataclass(eq=False)
class _Ball:
    inputs: int
    radius: float
    blocks: list[_Block] = field(default_factory=list)
    slopes: list[Slope] = field(default_factory=list)

    def through(self, layers: Sequence[Map | Slope | Sort | Skip], z: Increments) -> Increments:
        for layer in layers:
            if isinstance(layer, Map):
                z = mapped(layer, z)
            elif isinstance(layer, Slope):
                z = self._slope(layer, z)
            elif isinstance(layer, Sort):
                z = self._sort(layer, z)
            else:
                z = added(z, self.through(layer.branch, z))
        return z

    def entries(self, z: Increments) -> Vector:
        """How far each entry moves, per unit of distance."""
        found, total = lengths(z.A[:, : self.inputs]), 1.0
        for block in self.blocks:
            M = block.of(z.A)
            if M.shape[1]:
                found = found + np.minimum(lengths(M) * block.length, abs(M) @ block.each * GENEROUS)
                total += block.length
        return (found + z.error * total) * GENEROUS

    def _slope(self, layer: Slope, z: Increments) -> Increments:
        alpha, beta = (np.zeros(len(z.center)) + v for v in (layer.alpha, layer.beta))
        if layer.kind in PIECES:
            return self._pieces(PIECES[layer.kind](alpha, beta), z)
        if layer.kind not in FUNCTIONS:
            raise InvalidProblem(
                f"What an activation of kind {layer.kind!r} does on a ball is not known. Use one of"
                f" {', '.join([*PIECES, *FUNCTIONS])}, or constants of all inputs."
            )
        function, each = FUNCTIONS[layer.kind], self.entries(z)
        low, high = self._range(z, each)
        value, error = function.value(z.center)
        steepest = np.maximum(abs(alpha), abs(beta))
        least, most = function.derivatives(low, high)
        alpha, beta = np.maximum(alpha, least), np.minimum(beta, most)
        slop = (error + steepest * z.slop) * GENEROUS + TINY
        return self._bent(alpha, np.maximum(alpha, beta), each, replace(z, center=value, slop=slop))

    def _pieces(self, left: Vector, z: Increments) -> Increments:
        """$x$ for $x \\ge 0$ and `left` $x$ below."""
        each = self.entries(z)
        alpha, beta = secants(left, z.center, z.slop, *self._range(z, each))
        center = np.where(z.center >= 0, z.center, left * z.center)
        slop = (np.maximum(1.0, abs(left)) * z.slop + UNIT * abs(center)) * GENEROUS + TINY
        return self._bent(alpha, beta, each, replace(z, center=center, slop=slop))

    def _sort(self, layer: Sort, z: Increments) -> Increments:
        """Minimum and maximum of a pair are half their sum minus and plus the absolute value of half their difference."""
        groups = np.asarray(layer.groups)
        if not groups.size or groups.shape[1] == 1:
            return z
        if groups.shape[1] != 2:
            raise InvalidProblem(
                f"Sorted groups of {groups.shape[1]} neurons are not covered around a point, only pairs (MaxMin, windows of"
                " maxima). Use constants of all inputs."
            )
        apart, together, left = halved(layer, len(z.center))
        return mapped(together, self._pieces(left, mapped(apart, z)))

    def _range(self, z: Increments, each: Vector) -> tuple[Vector, Vector]:
        """Ends of the values on the ball."""
        far = (z.slop + each * self.radius) * GENEROUS
        far = far + 4 * UNIT * (abs(z.center) + far) + TINY
        return z.center - far, z.center + far

    def _bent(self, alpha: Vector, beta: Vector, each: Vector, z: Increments) -> Increments:
        """Increments after neurons of these slopes, of arguments whose increments are those of `z` and at most `each`."""
        self.slopes.append(Slope(alpha, beta))
        d = alpha / 2 + beta / 2
        h = np.where(alpha < beta, np.maximum(beta - d, d - alpha) * (1 + 4 * UNIT) + TINY, 0.0)
        bent, size = np.flatnonzero(h), lengths(z.A)
        g = np.sqrt(h[bent]) * (1 + 4 * UNIT)
        A = np.zeros((len(d), z.A.shape[1] + len(bent)))
        np.multiply(d[:, None], z.A, out=A[:, : z.A.shape[1]])
        A[bent, z.A.shape[1] + np.arange(len(bent))] = g
        lost = z.A.shape[1] * TINY
        error = (abs(d) * (z.error + UNIT * size) + lost) * GENEROUS
        if len(bent):
            length = self._length(g[:, None] * z.A[bent], g * (z.error[bent] + 2 * UNIT * size[bent]) + lost)
            p = g * each[bent] * GENEROUS
            whole = float(np.sqrt((p * p).sum())) * GENEROUS
            self.blocks.append(_Block(z.A.shape[1], min(length, whole), p))
        return replace(z, A=A, error=error)

    def _length(self, B: Matrix, error: Vector) -> float:
        """How long the increment with matrix B gets, per unit of distance."""
        off = float(np.sqrt((error * error).sum())) * self._total() * GENEROUS + TINY
        parts = [(B[:, : self.inputs], 1.0), *((block.of(B), block.length) for block in self.blocks)]
        parts = [(part, q) for part, q in parts if part.shape[1] and q > 0 and part.any()]
        if not parts:
            return off
        weight = np.array([(q / _estimate(part)) ** 0.5 for part, q in parts])
        stack = np.concatenate([w * part for w, (part, _) in zip(weight, parts, strict=True)], 1)
        if not (np.isfinite(stack).all() and (weight > 0).all()):
            return np.inf
        root = float(np.sqrt(((np.array([q for _, q in parts]) / weight) ** 2).sum()))
        rounded = 2 * UNIT * float(np.sqrt((stack * stack).sum())) + stack.size * TINY
        try:
            return (root * (spectral_norm_above(stack) + rounded) + off) * GENEROUS
        except NotProvable:
            return np.inf

    def _total(self) -> float:
        return 1.0 + sum(block.length for block in self.blocks)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def secants(left: Vector, center: Vector, slop: Vector, low: Vector, high: Vector) -> tuple[Vector, Vector]:
    r"""Slopes of secants of $x$ for $x \ge 0$, `left` $x$ below, from a point within `slop` of `center` to one in [low, high].

    From $z \ge 0$ the secant to $v < 0$ has the slope $1 + (l - 1) w$ with $w = -v / (z - v)$, which grows with $-v$ and falls
    with $z$; the other side likewise.
    """
    pad = 4 * UNIT * (abs(center) + slop)
    on, off = low >= 0, high <= 0
    right_side, left_side = center - slop - pad >= 0, center + slop + pad <= 0
    near = np.maximum(abs(center) - slop - pad, 0.0)  # of the kink, at least
    across = np.where(right_side, -low, np.where(left_side, high, np.inf))
    share = np.where(np.isfinite(across), across / (near + across), 1.0)
    share = np.clip(np.where(share >= 0, share, 0.0) * (1 + 16 * UNIT), 0.0, 1.0)
    own = np.where(right_side, 1.0, left)
    other = np.where(right_side, left, 1.0)
    end = own + share * (other - own)
    bound = 8 * UNIT * (1 + abs(left))
    alpha = np.maximum(np.minimum(own, end - bound), np.minimum(1.0, left))
    beta = np.minimum(np.maximum(own, end + bound), np.maximum(1.0, left))
    known = right_side | left_side
    alpha, beta = (
        np.where(known, slope, side(1.0, left)) for slope, side in ((alpha, np.minimum), (beta, np.maximum))
    )
    fixed = np.where(on, 1.0, left)
    return np.where(on | off, fixed, alpha), np.where(on | off, fixed, beta)


def _estimate(A: Matrix) -> float:
    """About the norm of A, by a few power iterations. Only weights come from it."""
    v = np.cos(np.arange(len(A)) * 2.399963 + 0.5) + 1e-3
    size = 0.0
    for _ in range(6):
        u = v @ A
        size = float(np.linalg.norm(u) / np.linalg.norm(v))
        v = A @ u
        if not v.any():
            break
    return max(size, float(abs(A).max()))

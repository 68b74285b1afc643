"""The rule and the method `frequency`: on the torus it is the dense inequality; it bounds every Jacobian; scales change nothing."""

from fractions import Fraction

import numpy as np
import pytest

from sdplip.bounds.methods import frequency
from sdplip.bounds.numerics.shares import Row, balanced
from sdplip.bounds.numerics.waves import waves
from sdplip.bounds.task import Task
from sdplip.errors import NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.linear import head, matrix
from sdplip.kernel.maxima import maxima_first
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.stationary import plan
from sdplip.network import (
    Activation,
    Average,
    Builder,
    Concatenate,
    Convolution,
    Dense,
    Diagonal,
    Gather,
    Maximum,
    Network,
    Node,
    OnAxis,
    Sum,
    Transposed,
    pooling_windows,
)
from tests.exact import inertia_signs

pytestmark = pytest.mark.usefixtures("one_thread")


def convolution(
    rng, channels, into, size, taps=(3, 3), *, stride=1, pads=None, groups=1, dilation=1, circular=False
):
    K = rng.normal(size=(channels, into // groups, *taps)) / np.sqrt(into * np.prod(taps))
    reach = [dilation * (k - 1) for k in taps]
    same = tuple((r // 2, r - r // 2) for r in reach)
    axes = len(taps)
    pads = same if pads is None else ((pads, pads),) * axes
    return Convolution(K, size, (stride,) * axes, pads, (dilation,) * axes, groups, circular)


class Make:
    """A network layer by layer on images."""

    def __init__(self, seed: int, channels: int, size: tuple[int, ...], *, circular: bool = False):
        self.rng, self.circular = np.random.default_rng(seed), circular
        self.builder = Builder((channels, *size))
        self.at = 0

    def view(self, value=None):
        return self.builder.shape(self.at if value is None else value)

    def add(self, op, *inputs, shape=None):
        self.at = self.builder.add(op, *(inputs or (self.at,)), shape=shape)
        return self.at

    def conv(self, channels, taps=(3, 3), value=None, **options):
        shape = self.view(value)
        options.setdefault("circular", self.circular)
        op = convolution(self.rng, channels, shape[0], shape[1:], taps, **options)
        return self.add(op, self.at if value is None else value, shape=op.shape)

    def act(self, alpha=0.0, beta=1.0):
        n = int(np.prod(self.view()))
        return self.add(Activation("", n, alpha=np.full(n, alpha), beta=np.full(n, beta)), shape=self.view())

    def sum(self, *values):
        return self.add(Sum((1,) * len(values), int(np.prod(self.view()))), *values, shape=self.view())

    def join(self, *values):
        shapes = [self.view(v) for v in values]
        op = Concatenate(tuple(int(np.prod(s)) for s in shapes))
        return self.add(op, *values, shape=(sum(s[0] for s in shapes), *shapes[0][1:]))

    def batch_norm(self):
        shape = self.view()
        d = np.repeat(self.rng.uniform(0.5, 1.5, shape[0]), np.prod(shape[1:]))
        return self.add(Diagonal(d, None, 2.0**-52), shape=shape)

    def mean(self, window=(2, 2)):
        shape = self.view()
        index = pooling_windows(shape[0], shape[1:], window, window, ((0, 0),) * len(window))
        size = tuple(n // w for n, w in zip(shape[1:], window, strict=True))
        op = Average(index, np.full(len(index), float(np.prod(window))), int(np.prod(shape)))
        return self.add(op, shape=(shape[0], *size))

    def maximum(self, window, stride=None, pads=(0, 0)):
        shape = self.view()
        stride = stride or window
        index = pooling_windows(shape[0], shape[1:], window, stride, tuple((p, p) for p in pads))
        ends = zip(shape[1:], pads, window, stride, strict=True)
        size = tuple((n + 2 * p - w) // s + 1 for n, p, w, s in ends)
        return self.add(Maximum(index, int(np.prod(shape))), shape=(shape[0], *size))

    def channels(self, m):
        shape = self.view()
        W = self.rng.normal(size=(m, shape[0])) / shape[0] ** 0.5
        return self.add(OnAxis(W, 1, int(np.prod(shape[1:]))), shape=(m, *shape[1:]))

    def back(self, channels):
        """A transposed convolution."""
        shape = self.view()
        op = convolution(self.rng, shape[0], channels, shape[1:], circular=False)
        return self.add(Transposed(op), shape=(channels, *shape[1:]))

    def dense(self, m):
        n = int(np.prod(self.view()))
        return self.add(Dense(self.rng.normal(size=(m, n)) / n**0.5))

    def done(self) -> Network:
        return self.builder.finish(self.at)


def plain(seed, **options):
    m = Make(seed, 2, (6, 4), **options)
    m.conv(3), m.act(), m.conv(2), m.act(0.0, 0.7), m.conv(2)
    return m.done()


def strided(seed, **options):
    m = Make(seed, 1, (8, 8), **options)
    m.conv(2, (3, 3), stride=2, pads=1), m.act(), m.conv(4, (2, 2), stride=2, pads=0), m.act()
    m.conv(3, (1, 1), pads=0)
    return m.done()


def pooled(seed, **options):
    m = Make(seed, 2, (8, 6), **options)
    m.conv(3), m.batch_norm(), m.act(), m.mean(), m.conv(3), m.act(0.1, 1.0), m.channels(2)
    return m.done()


def grouped(seed, **options):
    m = Make(seed, 4, (4, 4), **options)
    m.conv(4, groups=2), m.act(-0.1, 1.1), m.conv(4, groups=4, dilation=1), m.act(), m.conv(2, (1, 1))
    return m.done()


def residual(seed, **options):
    m = Make(seed, 2, (6, 6), **options)
    start = m.conv(3)
    m.act()
    start = m.at
    m.conv(3), m.act(), m.conv(3)
    m.sum(start, m.at), m.act()
    start = m.at
    m.conv(4, stride=2, pads=1), m.act()
    branch = m.conv(4)
    skip = m.conv(4, (1, 1), value=start, stride=2, pads=0)
    m.sum(branch, skip)
    return m.done()


def preactivated(seed, **options):
    m = Make(seed, 2, (4, 4), **options)
    start = m.conv(3)
    for _ in range(2):
        m.act(), m.conv(3), m.act()
        start = m.sum(m.conv(3), start)
    return m.done()


def densely(seed, **options):
    m = Make(seed, 2, (4, 4), **options)
    m.conv(2), m.act()
    first = m.at
    m.conv(2), m.act()
    m.join(first, m.at), m.conv(2), m.act(0.2, 0.9)
    return m.done()


def transposed(seed, **_options):
    m = Make(seed, 2, (4, 5))
    m.conv(3), m.act(), m.back(2), m.act(), m.conv(2, (2, 2), pads=0)
    return m.done()


def straight(seed, **options):
    """Two convolutions without an activation between them: a mask stands there."""
    m = Make(seed, 2, (4, 4), **options)
    m.conv(3), m.conv(3), m.act(), m.conv(2)
    return m.done()


def maxima(seed, **options):
    m = Make(seed, 2, (8, 6), **options)
    m.conv(3), m.act(), m.maximum((2, 2)), m.conv(3), m.act(0.0, 0.8), m.maximum((1, 3)), m.conv(2, (3, 1))
    return m.done()


def overlapping(seed, **_options):
    m = Make(seed, 1, (5, 4))
    m.conv(2), m.maximum((3, 2), stride=(2, 1), pads=(1, 0)), m.act(), m.conv(2)
    return m.done()


def one_axis(seed, **options):
    m = Make(seed, 2, (9,), **options)
    m.conv(3, (3,)), m.act(), m.conv(2, (5,))
    return m.done()


EVERY = [
    plain,
    strided,
    pooled,
    grouped,
    residual,
    preactivated,
    densely,
    transposed,
    straight,
    maxima,
    overlapping,
    one_axis,
]
CIRCULAR = [plain, strided, pooled, grouped, residual, preactivated, densely, straight, maxima, one_axis]


def with_slopes(network: Network, rng) -> Network:
    """A linear network whose slopes are drawn, mostly from the ends of their ranges."""
    builder = Builder(network.input_shape)
    for node in network.nodes:
        op = node.op
        if isinstance(op, Activation):
            share = rng.choice([0.0, 1.0, rng.uniform()], op.length, p=[0.45, 0.45, 0.1])
            op = Diagonal(op.alpha + share * (op.beta - op.alpha))
        if isinstance(op, Maximum):
            op = Gather(np.array([rng.choice(row[row >= 0]) for row in op.index]), op.length)
        builder.add(op, *node.inputs, shape=node.shape)
    return builder.finish(network.output)


def largest_jacobian(network: Network, rng, count: int = 12) -> float:
    return max(np.linalg.norm(matrix(with_slopes(network, rng)).mid, 2) for _ in range(count))


def proposals(network: Network):
    found = frequency.split(network)
    return found, dict(frequency.candidates(Task(network), found))


@pytest.mark.parametrize("make", EVERY, ids=lambda make: make.__name__)
def test_it_bounds_every_jacobian(make):
    rng = np.random.default_rng(1)
    for seed in range(2):
        network = make(seed)
        (found,) = frequency.propose(Task(network))
        assert conclude(Goal(network), found.proof) == found.bound
        assert 0 < largest_jacobian(network, rng) <= found.bound


@pytest.mark.parametrize("make", CIRCULAR, ids=lambda make: make.__name__)
def test_on_a_torus_it_is_the_dense_inequality(make):
    """The least c that given multipliers prove is that of the dense inequality with one multiplier a channel."""
    network = maxima_first(make(3, circular=True))
    planned = plan(network, network.output)
    _, every = proposals(network)
    lam = every["frequency-spectral"]
    own = dict(zip(planned.unknowns, np.split(lam, np.cumsum(planned.channels)[:-1]), strict=True))
    least = dense_bound(network, planned, own)
    data = {"multipliers": list(own.values())}
    for c, holds in ((least * (1 + 1e-5), True), (least * (1 - 1e-7), False)):
        proof = Proof("frequency", data | {"c": c})
        if holds:
            assert conclude(Goal(network), proof) == c
        else:
            with pytest.raises(NotProvable):
                conclude(Goal(network), proof)


def dense_bound(network: Network, planned, multipliers) -> float:
    """By unrolled matrices: the root of the largest eigenvalue of G M^-1 G'; multipliers in the scaling of the rule."""
    exponents = unscaled(network, planned)
    width, at, values = network.inputs, {}, {}
    total = width + sum(network.length(v) for v, _ in planned.unknowns)
    for key in planned.unknowns:
        at[key] = slice(width, width + network.length(key[0]))
        width = at[key].stop
    M = np.zeros((total, total))
    M[: network.inputs, : network.inputs] = np.eye(network.inputs)
    values[0] = np.eye(total)[: network.inputs]

    def unknown(key, y):
        nonlocal M
        one, own = planned.unknowns[key], np.eye(total)[at[key]]
        pixels = network.length(key[0]) // len(one.alpha)
        lam = np.repeat(multipliers[key], pixels) * 4.0 ** -exponents[key]
        half = 0.5 * (own.T * (lam * np.repeat(one.delta.mid, pixels))) @ y
        M += (own.T * lam) @ own - half - half.T
        return np.repeat(one.alpha, pixels)[:, None] * y + own

    for k, node in enumerate(network.nodes, 1):
        parts = [values[i] for i in node.inputs]
        if isinstance(node.op, Sum):
            rows = sum(parts)
        elif isinstance(node.op, Concatenate):
            rows = np.concatenate(parts)
        elif isinstance(node.op, Activation):
            rows = parts[0]
        elif isinstance(node.op, Maximum):
            entries, j = [parts[0][column] for column in node.op.index.T], 0
            while len(entries) > 1:
                pairs = list(zip(entries[::2], entries[1::2], strict=False))
                left = [b + unknown((k, j + n), a - b) for n, (a, b) in enumerate(pairs, 1)]
                entries, j = left + entries[2 * len(pairs) :], j + len(pairs)
            rows = entries[0]
        else:
            rows = matrix(Network((node.op.inputs,), (Node(node.op, (0,), node.shape),))).mid @ parts[0]
        if (k, 0) in planned.unknowns:
            rows = unknown((k, 0), rows)
        values[k] = rows
    G = values[network.output]
    return float(np.linalg.eigvalsh(G @ np.linalg.solve(M, G.T))[-1] ** 0.5)


def unscaled(network: Network, planned) -> dict:
    """The powers of two by which the rule scales each unknown."""
    found, before = {}, {0: 0}
    for k, node in enumerate(network.nodes, 1):
        e = max(before[i] for i in node.inputs)
        if k in planned.taps:
            e += planned.taps[k].exponent
        if (
            k in planned.windows
        ):  # factors 1 are 1/2 times 2; differences of pairs of pairs hold unknowns of larger powers
            level = [e + 1] * len(planned.windows[k])
            j = 0
            while len(level) > 1:
                pairs = list(zip(level[::2], level[1::2], strict=False))
                for n, pair in enumerate(pairs, 1):
                    found[k, j + n] = max(pair) + 1
                level, j = [max(pair) + 1 for pair in pairs] + level[2 * len(pairs) :], j + len(pairs)
            e = level[0]
        if (k, 0) in planned.unknowns:
            own = planned.unknowns[k, 0]
            found[k, 0] = e + int(np.frexp(own.delta.mid.max())[1])
            raw = e + int(np.frexp(abs(own.alpha).max())[1]) if own.alpha.any() else found[k, 0]
            e = max(found[k, 0], raw)
        before[k] = e
    return found


@pytest.mark.parametrize("make", [plain, strided, residual], ids=lambda make: make.__name__)
def test_a_matrix_behind_is_the_dense_inequality(make):
    """The least R R' is G M^-1 G' with the matrix behind as a part of G."""
    m = Make(5, 2, (8, 6), circular=True)
    m.conv(3), m.act()
    if make is strided:
        m.conv(4, stride=2, pads=1), m.act()
    if make is residual:
        start = m.at
        m.conv(3), m.act(), m.conv(3), m.sum(start, m.at), m.act()
    cut = m.at
    m.dense(3)
    network = m.done()
    found, every = proposals(network)
    assert (found.planned.stop, found.end) == (cut, network.output)
    lam = every["frequency-spectral"]
    planned = found.planned
    own = dict(zip(planned.unknowns, np.split(lam, np.cumsum(planned.channels)[:-1]), strict=True))
    least = dense_bound(network, planned, own)
    proof = frequency.conclude(Task(network), found, lam)[1]
    assert np.linalg.norm(proof.data["R"], 2) == pytest.approx(least, rel=1e-6)
    assert conclude(Goal(network), proof) == pytest.approx(least, rel=1e-6)
    smaller = proof.data | {"R": proof.data["R"] * (1 - 1e-7)}
    with pytest.raises(NotProvable, match="less than"):
        conclude(Goal(network), Proof("frequency", smaller, proof.parts))


def test_what_stands_behind_is_multiplied_with_its_error():
    m = Make(6, 2, (4, 4))
    m.conv(3), m.act()
    cut = m.at
    m.mean(), m.dense(3), m.act(), m.dense(2)
    network = m.done()
    F = head(network, cut, cut + 2)
    exact = matrix(network.between(cut, cut + 2))
    assert (abs(F.mid - exact.mid) <= F.radius() + exact.radius()).all() and F.radius().max() < 1e-14
    (found,) = frequency.propose(Task(network))
    assert found.proof.data["head"] == cut + 2
    assert found.bound >= largest_jacobian(network, np.random.default_rng(0))


@pytest.mark.parametrize("exponents", [(0, 0, 0), (500, -500, 0), (-500, -400, 500), (-1040, 500, 500)])
def test_powers_of_two_change_nothing(exponents):
    """Kernels times powers of two: the same multipliers prove the bound times all of them."""
    network = plain(4)
    (found,) = frequency.propose(Task(network))
    moved, given = [], iter(exponents)
    for node in network.nodes:
        op = node.op
        if isinstance(op, Convolution):
            op = convolution_of(op, np.ldexp(op.K, next(given)))
        moved.append(Node(op, node.inputs, node.shape))
    other = Network(network.input_shape, tuple(moved))
    c = float(np.ldexp(found.bound * (1 + 1e-9), sum(exponents)))
    proof = Proof("frequency", {"multipliers": found.proof.data["multipliers"], "c": c})
    if (
        min(exponents) < -1000
    ):  # entries lose digits, and more than that where subnormal numbers are read as zero
        with pytest.raises(NotProvable):
            conclude(Goal(other), Proof("frequency", proof.data | {"c": c * (1 - 1e-4)}))
    else:
        assert conclude(Goal(other), proof) == c


def convolution_of(op: Convolution, K) -> Convolution:
    return Convolution(K, op.image_size, op.stride, op.pads, op.dilation, op.groups, op.circular)


def test_no_false_proof_in_exact_arithmetic():
    """One circular convolution of one channel, a slope and a factor: a yes is exact positive semidefiniteness, at all scales."""
    rng, said = np.random.default_rng(0), []
    for _ in range(60):
        scale, slope = 2.0 ** rng.integers(-500, 500), 2.0 ** rng.integers(-400, 400)
        K = np.array([[[rng.uniform(0.5, 1.0), rng.uniform(-1, 1)]]]) * scale
        first = Convolution(K, (4,), (1,), ((0, 1),), (1,), 1, circular=True)
        last = Convolution(
            np.full((1, 1, 1), rng.uniform(1, 2)), (4,), (1,), ((0, 0),), (1,), 1, circular=True
        )
        act = Activation("", 4, alpha=np.zeros(4), beta=np.full(4, slope))
        m = Builder((1, 4))
        m.add(first, 0, shape=(1, 4)), m.add(act, 1, shape=(1, 4)), m.add(last, 2, shape=(1, 4))
        network = m.finish(3)
        planned = plan(network, 3)
        e = unscaled(network, planned)[2, 0]
        lam = rng.uniform(0.1, 1.0)
        small = scaled_down(network, planned, e)
        least = dense_bound(small, plan(small, 3), {(2, 0): np.array([lam])})
        c = float(np.ldexp(least * (1 + rng.choice([-1, 1]) * 10.0 ** rng.uniform(-13, -6)), e))
        try:
            conclude(Goal(network), Proof("frequency", {"multipliers": [np.array([lam])], "c": c}))
        except NotProvable:
            said.append(False)
            continue
        said.append(True)
        assert inertia_signs(exact_inequality(first, slope, float(last.K[0, 0, 0]), lam, e, c))[0]
    assert 10 < sum(said) < 50


def scaled_down(network, planned, e):
    """The same with the powers of two taken out of kernel and slope."""
    nodes = list(network.nodes)
    K = nodes[0].op.K
    nodes[0] = Node(convolution_of(nodes[0].op, np.ldexp(K, -planned.taps[1].exponent)), (0,), nodes[0].shape)
    beta = np.ldexp(nodes[1].op.beta, planned.taps[1].exponent - e)
    nodes[1] = Node(Activation("", 4, alpha=np.zeros(4), beta=beta), (1,), nodes[1].shape)
    return Network(network.input_shape, tuple(nodes))


def exact_inequality(first, slope, gain, lam, e, c) -> list[list[Fraction]]:
    """[I, -s l W'/2, 0; ., l I, g I; 0, g I, c^2 I] with the rule's multiplier for the unscaled unknown."""
    W = matrix(Network((1, 4), (Node(first, (0,), (1, 4)),))).mid
    own = Fraction(lam) / Fraction(4) ** e if e >= 0 else Fraction(lam) * Fraction(4) ** -e
    M = [[Fraction(0)] * 12 for _ in range(12)]
    for i in range(4):
        M[i][i], M[4 + i][4 + i], M[8 + i][8 + i] = Fraction(1), own, Fraction(c) ** 2
        M[4 + i][8 + i] = M[8 + i][4 + i] = Fraction(gain)
        for j in range(4):
            M[4 + i][j] = M[j][4 + i] = -Fraction(slope) * own * Fraction(W[i, j]) / 2
    return M


def test_what_a_proof_holds_is_checked():
    network = plain(4)
    (found,) = frequency.propose(Task(network))
    data = found.proof.data
    lams = data["multipliers"]
    bad = [
        {"multipliers": lams[:1]},
        {"multipliers": [lams[0][1:], lams[1]]},
        {"multipliers": [lams[0] * np.nan, lams[1]]},
        {"multipliers": [-lams[0], lams[1]]},
        {"multipliers": [lams[0] * 2.0**500, lams[1]]},
        {"multipliers": [5 * lam for lam in lams]},
        {"c": -data["c"]},
        {"c": 0.0},
        {"c": data["c"] * 0.99},
        {"c": np.inf},
        {"c": "1"},
    ]
    for change in bad:
        with pytest.raises(NotProvable):
            conclude(Goal(network), Proof("frequency", data | change))
    for other in (
        {"multipliers": lams},
        {"multipliers": lams, "head": 5, "cut": 4, "R": np.eye(3)},
        {"head": 1, "cut": 0},
    ):
        with pytest.raises(NotProvable):
            conclude(Goal(network), Proof("frequency", other))


def test_what_does_not_do_the_same_at_every_pixel_is_refused():
    m = Make(0, 2, (4, 4))
    m.conv(2), m.act()
    m.add(Diagonal(np.linspace(1, 2, 32)), shape=(2, 4, 4)), m.conv(2)
    with pytest.raises(NotProvable, match="pixel to pixel"):
        plan(m.done(), 4)
    m = Make(0, 2, (4, 4))
    m.dense(3), m.act(), m.dense(2)
    assert frequency.unfit(m.done()) is not None
    m = Make(0, 2, (4, 4))
    m.conv(2), m.act(), m.mean((2, 1))
    index = m.builder.nodes[-1].op.index[:, ::-1]
    network = m.done()
    assert plan(network, 3).views[3].spacing == (2, 1)
    turned = Average(np.roll(index, 1, 0), np.full(len(index), 2.0), 32)
    broken = Network((2, 4, 4), (*network.nodes[:2], Node(turned, (2,), (2, 2, 4))))
    with pytest.raises(NotProvable, match="one window moved"):
        plan(broken, 3)


@pytest.mark.parametrize("make", [plain, strided, residual], ids=lambda make: make.__name__)
def test_balanced_shares_prove_more_than_halves(make):
    found = frequency.split(make(3))
    row = Row(waves(found.planned, found.F))
    shares = balanced(row)
    assert shares is not None and ((shares > 0) & (shares < 1)).all()
    value, lam = row.multipliers(shares)
    assert value == pytest.approx(
        row.value(lam), rel=1e-9
    )  # one is computed on the way, the other of its result
    half, start = row.multipliers(np.full(len(shares), 0.5))
    assert value <= half
    assert row.value(row.drawn(start, lam)) <= min(half, value * (1 + 1e-9))
    assert not row.value(lam * 1e6) < np.inf  # beyond every share
    assert frequency.conclude(Task(found.network), found, lam)[0] >= largest_jacobian(
        found.network, np.random.default_rng(0)
    )

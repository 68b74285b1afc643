"""Passes over stationary networks: derivatives against differences, and plain stages against whole matrices."""

from dataclasses import replace

import numpy as np
import pytest

from sdplip.bounds.methods import METHODS, frequency
from sdplip.bounds.numerics.descent import Barrier, dense_stages
from sdplip.bounds.numerics.shares import Row
from sdplip.bounds.numerics.stage import Stage, top_factor
from sdplip.bounds.numerics.waves import cubes, passes, waves
from sdplip.bounds.run import plan
from sdplip.bounds.task import Task
from sdplip.kernel.check import conclude
from sdplip.kernel.frequencies import grid
from sdplip.kernel.proof import Goal
from sdplip.kernel.stages import Stages, stages
from sdplip.network import Network
from tests.test_frequency import Make, largest_jacobian

pytestmark = pytest.mark.usefixtures("one_thread")


def row(seed: int, *widths: int) -> Network:
    """Convolutions of stride 1 and 2, and matrices behind them."""
    m = Make(seed, 2, (8, 6))
    m.conv(3), m.act(), m.conv(2, (4, 4), stride=2, pads=1), m.act(0.0, 0.8)
    for n in widths:
        m.dense(n), m.act()
    m.dense(4)
    return m.done()


def residual(seed: int) -> Network:
    """A residual block between convolutions, and a matrix behind it."""
    m = Make(seed, 1, (6, 6))
    m.conv(2, stride=2, pads=1), m.act()
    start = m.at
    m.conv(2), m.act(), m.conv(2)
    m.sum(start, m.at), m.act(), m.dense(3)
    return m.done()


def searched(network: Network) -> Row:
    """All stages of a network, those of its tail included."""
    found = frequency.split(network)
    tail = (
        Stages((), ())
        if found.end in (None, network.output)
        else stages(network.between(found.end, network.output))
    )
    return Row(waves(found.planned, found.F), *dense_stages(tail, len(found.planned.channels)))


def whole(stage: Stage) -> Stage:
    """The same stage with what stands behind it as a matrix: not plain."""
    if not stage.plain:
        return stage
    p = stage.order - stage.width
    G = np.concatenate([np.zeros((p, stage.width)), np.eye(p)], 1)
    return replace(stage, G=np.broadcast_to(G, (len(stage.share), p, stage.order)).astype(complex))


NETWORKS = {"head": row(0), "tail": row(1, 5, 3), "residual": residual(2)}


@pytest.mark.parametrize("name", NETWORKS)
def test_derivatives_of_the_descent(name):
    row = searched(NETWORKS[name])
    value, lam = row.multipliers(np.full(len(row.channels), 0.4))
    x = np.concatenate([np.log(lam), [np.log(1.3 * value)]])
    barrier = Barrier(row.waves, value / 50, row.tail, row.channels)
    here = barrier(x)
    assert here is not None
    move = np.random.default_rng(0).normal(size=len(x))
    ahead, behind = (barrier(x + s * 1e-5 * move) for s in (1, -1))
    assert ahead is not None
    assert behind is not None
    slope = (ahead.value - behind.value) / 2e-5
    assert slope == pytest.approx(
        here.gradient @ move, rel=1e-6
    )  # differences are good to 1e-10 of values near 1e2


def test_plain_stages_are_the_whole_matrix():
    row = searched(NETWORKS["tail"])
    assert all(stage.plain for stage in (*row.waves.stages, row.tail[0]))
    other = Row(
        replace(row.waves, stages=tuple(map(whole, row.waves.stages))),
        tuple(map(whole, row.tail)),
        row.neurons,
    )
    value, lam = row.multipliers(np.full(len(row.channels), 0.4))
    assert other.value(lam) == pytest.approx(value, rel=1e-10)
    lams = np.split(lam, np.cumsum(row.channels)[:-1])
    X = row.waves.start
    for stage in row.waves.stages[:1]:
        factors = [top_factor(s, s.arguments[0], X, lams) for s in (stage, whole(stage))]
        assert factors[0] == pytest.approx(factors[1], rel=1e-10)


def test_plain_stages_cost_their_blocks():
    planned = frequency.split(NETWORKS["head"]).planned
    # 2 channels in front of 3; behind the stride four aliases of these in front of 2
    fine, coarse = (len(grid(planned.torus(end)).points) for _, end in planned.segments)
    assert passes(planned) == fine * (2 * 5**2 + 3**3) + coarse * (4 * 3 * 5**2 + 2**3)
    assert passes(frequency.split(NETWORKS["residual"]).planned) < cubes(
        frequency.split(NETWORKS["residual"]).planned
    )


def test_wide_matrices_behind_convolutions_join_the_proof():
    m = Make(4, 1, (8, 8))
    m.conv(2), m.act(), m.conv(2, stride=2, pads=1), m.act(), m.dense(260), m.act(), m.dense(2)
    network = m.done()
    found = frequency.split(network)
    assert found.F is not None
    assert found.F.shape == (260, 32)
    lam = waves(found.planned, found.F).spectral()
    assert lam is not None
    proven, proof = frequency.conclude(Task(network), found, lam)
    assert conclude(Goal(network), proof) == proven
    (product,) = METHODS["product"].propose(Task(network))
    assert largest_jacobian(network, np.random.default_rng(0)) <= proven < 0.8 * product.bound
    assert {"frequency", "product"} <= set(plan(Task(conv_large())))


def conv_large() -> Network:
    """Of the kind ConvLarge, 28 x 28 pixels, 48,064 neurons."""
    m = Make(0, 1, (28, 28))
    for channels, k in ((32, 3), (32, 4), (64, 3), (64, 4)):
        m.conv(channels, (k, k), stride=k - 2, pads=1), m.act()
    for n in (512, 512):
        m.dense(n), m.act()
    m.dense(10)
    return m.done()

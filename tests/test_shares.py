"""Functions of groups on a region: no Jacobian in the box exceeds the share of the constant, and single points have their own."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from sdplip.arithmetic.groups import GROUPED
from sdplip.bounds import bound
from sdplip.kernel.reach.shares import CONSTANTS, LEAST, shares
from sdplip.kernel.regions import Box
from sdplip.network import Dense, Grouped, chain

pytestmark = pytest.mark.usefixtures("one_thread")

PARAMETERS = {
    "softmax": {},
    "softmin": {},
    "layer_norm": {"eps": 1e-3},
    "rms_norm": {"eps": 1e-3},
    "normalize": {"eps": 0.3},
}


def jacobian_norm(name: str, x: np.ndarray) -> float:
    """Of one group, by automatic differentiation."""
    eps = PARAMETERS[name].get("eps", 0.0)
    functions = {
        "softmax": lambda v: torch.softmax(v, -1),
        "softmin": lambda v: torch.softmax(-v, -1),
        "layer_norm": lambda v: (v - v.mean()) / ((v - v.mean()).square().mean() + eps).sqrt(),
        "rms_norm": lambda v: v / (v.square().mean() + eps).sqrt(),
        "normalize": lambda v: v / v.norm().clamp(min=eps),
    }
    J = torch.autograd.functional.jacobian(functions[name], torch.from_numpy(x))
    return float(torch.linalg.matrix_norm(J, 2))


def test_every_function_that_has_less_on_a_box_is_tried():
    assert set(CONSTANTS) == set(PARAMETERS) <= set(GROUPED)


@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_no_jacobian_of_the_box_exceeds_the_share(name, scale):
    rng = np.random.default_rng(1)
    for width in (0.0, 0.2, 2.0):
        low = rng.normal(size=6) * scale
        high = low + rng.uniform(size=6) * width * scale
        op = Grouped(name, np.array([[0, 4, 2], [5, 1, 3]]), 6, PARAMETERS[name])
        most = shares(op, low, high) * op.constant
        points = low + rng.uniform(size=(40, 6)) * (high - low)
        ends = np.where(rng.uniform(size=(40, 6)) < 0.5, low, high)
        for x in (*points, *ends):
            for group, own in zip(op.groups, most, strict=True):
                assert jacobian_norm(name, x[group]) <= own * (1 + 1e-9)  # of the automatic differentiation
        if width == 0 and name != "softmax" and name != "softmin":  # row sums are no norms, lengths are
            norms = [jacobian_norm(name, low[group]) for group in op.groups]
            assert most == pytest.approx(np.array(norms), rel=1e-6)


def test_numbers_by_hand():
    two = Grouped("softmax", np.array([[0, 1]]), 2)
    at = np.array([0.0, np.log(3)])  # p = (1/4, 3/4), whose Jacobian has the norm 2 / 4 * 3 / 4
    assert 0.375 <= shares(two, at, at)[0] * 0.5 <= 0.375 * (1 + 1e-9)
    wide = shares(two, np.array([-1.0, 0.0]), np.array([1.0, 0.0]))  # p passes 1/2
    assert wide[0] == 1
    normal = Grouped("layer_norm", np.array([[0, 1, 2]]), 3, {"eps": 0.25})
    low, high = (
        np.array([-2.0, -1.0, 2.0]),
        np.array([-2.0, 1.0, 3.0]),
    )  # nearest: -2, 0, 2 with the variance 8 / 3
    exact = float(Fraction(8, 3) + Fraction(1, 4)) ** -0.5
    assert exact <= shares(normal, low, high)[0] * normal.constant <= exact * (1 + 1e-9)


@pytest.mark.parametrize("name", CONSTANTS)
def test_what_is_unbounded_or_extreme_keeps_the_constant(name):
    op = Grouped(name, np.array([[0, 1, 2]]), 3, PARAMETERS[name])
    for low, high in ((-np.inf, np.inf), (-1e300, 1e300), (-1e-300, 1e-300), (0.0, np.inf)):
        share = shares(op, np.full(3, low), np.full(3, high))
        assert share.shape == (1,) and LEAST <= share[0] <= 1
        if low < 0 and name not in ("softmax", "softmin"):
            assert share[0] == 1  # 0 is in the box, where the constant is reached
    assert shares(op, np.array([-1e4, 0.0, 1e4]), np.array([-1e4, 0.0, 1e4]))[0] < 1e-3


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_box_has_a_smaller_bound_than_all_inputs(name):
    rng = np.random.default_rng(2)
    network = chain(
        [
            Dense(rng.normal(size=(6, 3)), np.array([0, 3.0, 1, -3, 0, 1])),
            Grouped(name, np.arange(6).reshape(2, 3), 6, PARAMETERS[name]),
            Dense(rng.normal(size=(2, 6))),
        ]
    )
    box = Box(np.zeros(3), np.full(3, 0.05))
    everywhere, here = bound(network, "product"), bound(network, region=box)
    assert here.lower <= here.value < 0.95 * everywhere.value
    x = rng.uniform(size=(20, 2, 3)) * 0.05
    y = network(x)
    stretched = np.linalg.norm(y[:, 0] - y[:, 1], axis=-1) / np.linalg.norm(x[:, 0] - x[:, 1], axis=-1)
    assert (stretched <= here.value * (1 + 1e-9)).all()

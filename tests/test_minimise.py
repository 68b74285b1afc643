"""The generic attack: known minima, balls and boxes kept, inputs without limits, one logit, the gap to the certificate."""

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem
from sdplip.robustness.attacks import STRONGER, attack_at, empirical_robust, pgd, pgd_l2, targeted_pgd
from sdplip.robustness.autoattack import autoattack
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.descent import minimise
from tests.trained import digits, trained

torch.set_num_threads(1)


def points(n=30, d=4, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_linear_margins_fall_by_their_slope():
    x, w = points(), torch.tensor([2.0, -1.0, 0.0, 2.0], dtype=torch.float64)  # of length 3
    eps = torch.linspace(0, 2, 30, dtype=torch.float64)
    found = minimise(lambda z: z @ w, x, eps, steps=10, restarts=1)
    assert torch.allclose(found.margin, x @ w - 3 * eps, atol=1e-4)
    assert torch.equal(found.margin, found.x @ w) and ((found.x - x).norm(dim=1) <= eps).all()


def test_a_box_is_kept():
    """From 0.9 upwards there is 0.1 left: the margin -x falls by that, not by eps."""
    x = torch.full((3, 1), 0.9, dtype=torch.float64)
    assert minimise(lambda z: -z[:, 0], x, 0.5, box=(0.0, 1.0)).x.tolist() == [[1.0]] * 3
    assert minimise(lambda z: -z[:, 0], x, 0.5).x == pytest.approx(np.full((3, 1), 1.4), abs=1e-5)


def test_against_every_point_of_a_grid():
    """A wavy function of two numbers: forty starts find its minimum in the ball."""

    def wavy(z):
        return torch.sin(4 * z[..., 0]) + torch.cos(3 * z[..., 1]) + 0.3 * (z * z).sum(-1)

    x, eps = points(20, 2), 1.0
    side = torch.linspace(-1, 1, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    grid = grid[grid.norm(dim=1) <= 1]
    least = torch.stack([wavy(center + grid).min() for center in x])
    found = minimise(wavy, x, eps, steps=40, restarts=40)
    assert (found.margin < least + 5e-3).all(), "the last step is 1 / 40"
    assert (found.margin > least - 0.05).all(), "the edge of the ball lies between points of the grid"
    again = minimise(wavy, x, eps, steps=40, restarts=40)
    assert torch.equal(found.x, again.x), "one seed, one answer"
    fewer = minimise(wavy, x, eps, steps=40, restarts=1)
    assert (fewer.margin >= found.margin).all() and (fewer.margin > found.margin + 0.1).any()


def classifier():
    """Classes 0 and 1 on the two sides of a plane at distance |x_0 - x_1| / sqrt 2, on inputs without limits."""
    layer = nn.Linear(4, 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]))
        layer.bias.zero_()
    return nn.Sequential(layer)


ATTACKS = {"pgd": pgd(steps=20, restarts=1), "targeted": targeted_pgd(steps=20)}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("factor", [0.999, 1.001])
def test_inputs_without_limits_are_not_clamped(name, factor):
    """The case that a clamp to [0, 1] made look robust."""
    x = 3 * points()
    y, distance = classifier()(x).argmax(1), abs(x[:, 0] - x[:, 1]) / 2**0.5
    robust = empirical_robust(classifier(), x, y, factor * distance.numpy(), attack=ATTACKS[name], box=None)
    assert robust.all() if factor < 1 else not robust.any()


@pytest.mark.parametrize("attack", [*ATTACKS.values(), None])
def test_inputs_outside_of_the_limits_are_refused(attack):
    x, y = points(), torch.zeros(30, dtype=torch.long)
    with pytest.raises(InvalidProblem, match=r"box=\(low, high\)"):
        empirical_robust(classifier(), x, y, 0.1, attack=attack or pgd())
    if attack:
        with pytest.raises(InvalidProblem, match="`box=None`"):
            attack(classifier(), x, y, torch.full((30,), 0.1))


def test_autoattack_keeps_its_limits():
    pytest.importorskip("pyautoattack", reason="needs the extra `attacks`")
    x, y = torch.rand(4, 1, 2, 2), torch.zeros(4, dtype=torch.long)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5))
    y = model(x).argmax(1)
    with pytest.raises(InvalidProblem, match=r"in \[0, 1\]"):
        empirical_robust(model, x, y, 0.1, attack=autoattack(), box=None)


def test_one_logit_is_attacked_as_a_sign():
    model = nn.Sequential(nn.Linear(4, 1)).double()
    x = points()
    y = (model(x)[:, 0] > 0).long()
    found = certify_accuracy(model, x, y)
    for attack in ATTACKS.values():
        assert empirical_robust(model, x, y, found.radius * 0.999, attack=attack, box=None).all()
        assert not empirical_robust(model, x, y, found.radius * 1.001, attack=attack, box=None).any()


def test_targets_break_what_one_loss_does_not():
    """On trained digits the targeted attack alone is no weaker than one path of the other, and no certificate breaks."""
    images, labels = (part[:60] for part in digits()[1])
    model, eps = trained("cpl"), 1.2
    found = certify_accuracy(model, images, labels)
    one = empirical_robust(model, images, labels, eps, attack=pgd(steps=8, restarts=1))
    targeted = empirical_robust(model, images, labels, eps, attack=targeted_pgd(steps=8))
    assert (one & ~targeted).sum() >= (targeted & ~one).sum()
    assert not (found.certified_at(eps) & ~(one & targeted)).any()


def test_more_is_tried_where_much_is_open():
    images, labels = (part[:80] for part in digits()[1])
    model, radii, tried = trained("sll"), ("0", "0.2", "0.6"), []
    found = certify_accuracy(model, images, labels)
    weak = pgd(steps=2, restarts=1)

    def strong(network, x, labels, eps, box):
        tried.append((float(eps[0]), len(x)))
        return pgd_l2(network, x, labels, eps, steps=10, restarts=2, box=box)

    before = attack_at(model, images, labels, found, radii, attack=weak)
    after = attack_at(model, images, labels, found, radii, attack=weak, stronger=[strong])
    gaps = found.gaps(after)
    assert {eps for eps, _ in tried} == {0.2, 0.6} and min(n for _, n in tried) > 0.01 * found.n
    assert all(0 <= gaps[eps] <= found.gaps(before)[eps] for eps in radii) and after["0.6"] < before["0.6"]
    assert gaps["0"] == pytest.approx(found.clean - found.certified("0"))
    document = found.to_json(file="m", data="d", radii=radii, empirical={"pgd": after})
    assert document["gaps"] == {"pgd": gaps}
    default = attack_at(model, images, labels, found, ["0.6"], attack=weak, stronger=STRONGER)
    assert default["0.6"] < before["0.6"]


@pytest.mark.parametrize(
    ("x", "eps", "margin", "message"),
    [
        (points(), -1.0, lambda z: z[:, 0], "`eps`"),
        (points(), float("nan"), lambda z: z[:, 0], "`eps`"),
        (points(), torch.ones(3), lambda z: z[:, 0], "30 of them"),
        (points(), 1.0, lambda z: z, "one number a sample"),
        (points() / 0, 1.0, lambda z: z[:, 0], "finite"),
        (points(0), 1.0, lambda z: z[:, 0], "nothing to attack"),
    ],
)
def test_refusals(x, eps, margin, message):
    with pytest.raises(InvalidProblem, match=message):
        minimise(margin, x, eps)

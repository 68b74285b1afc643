"""Attacks: they stay inside, they find what is known to be there, and they never break a certificate."""

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem, MissingDependency
from sdplip.robustness.arithmetic import network_in, pixels
from sdplip.robustness.attacks import broken, empirical_accuracy, empirical_robust, pgd, pgd_l2
from sdplip.robustness.autoattack import autoattack
from sdplip.robustness.certification import certify_accuracy
from tests.trained import FAMILIES, digits, trained


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_no_certified_sample_is_ever_broken(family, precision):
    """Each sample with a radius of its own, just below what is certified."""
    if family == "orthogonal" and precision == "float32":
        pytest.skip("Fourier transforms have no proven rounding error")
    images, labels = (part[:150] for part in digits()[1])
    found = certify_accuracy(trained(family), images, labels, precision=precision)
    assert found.clean > 0.3 and found.radius.max() > 0.05, "training went wrong: the law would be empty"
    robust = empirical_robust(
        trained(family),
        images,
        labels,
        found.radius * (1 - 1e-6),
        attack=pgd(steps=20, restarts=2),
        precision=precision,
    )
    assert (robust == found.correct).all()


@pytest.mark.parametrize("family", ["sll", "orthogonal"])
def test_attack_is_the_upper_side(family):
    images, labels = (part[:100] for part in digits()[1])
    found = certify_accuracy(trained(family), images, labels)
    last = found.clean
    for eps in (0.1, 0.5, 2.0):
        accuracy = empirical_accuracy(trained(family), images, labels, eps, attack=pgd(steps=15, restarts=1))
        assert found.certified(eps) <= accuracy <= last
        last = accuracy
    assert last < 0.2, "two units away lies an image of another class"


def linear():
    """The margin of class 0 is x_0 - x_1 - 1/4: the least change of (1, 1/2) that flips it has length 1 / (4 sqrt 2)."""
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2))
        layer.bias.copy_(torch.tensor([0.0, 0.25]))
    return nn.Sequential(layer)


@pytest.mark.parametrize(("factor", "flips"), [(1 + 1e-4, True), (1 - 1e-4, False)])
def test_finds_the_nearest_point_of_a_linear_classifier(factor, flips):
    x, y, eps = torch.tensor([[0.9, 0.5]]), torch.tensor([0]), factor * 0.15 / 2**0.5
    assert (empirical_accuracy(linear(), x, y, eps, attack=pgd(steps=40, restarts=1)) == 0) == flips


def test_attacked_images_stay_in_ball_and_cube():
    images, labels = (part[:40] for part in digits()[1])
    network = network_in(trained("sll"), "float64")
    x, eps = pixels(images, "float64"), torch.linspace(0, 2, 40, dtype=torch.float64)
    z = pgd_l2(network, x, labels, eps, steps=5, restarts=2)
    assert ((z - x).flatten(1).norm(dim=1) <= eps).all() and z.min() >= 0 and z.max() <= 1
    assert torch.equal(z, pgd_l2(network, x, labels, eps, steps=5, restarts=2)), "one seed, one answer"
    assert not broken(network, x, x + 3, labels, eps).any(), "what leaves the cube or the ball does not count"


def test_autoattack_breaks_at_least_as_many_and_no_certificate():
    pytest.importorskip("pyautoattack", reason="needs the extra `attacks`")
    images, labels = (part[:8] for part in digits()[1])
    model, eps = trained("sll"), 1.5  # all are broken early; the last attack of the ensemble would take long
    found = certify_accuracy(model, images, labels)
    before = torch.get_rng_state()
    robust = empirical_robust(model, images, labels, eps, attack=autoattack())
    assert torch.equal(before, torch.get_rng_state()), "no seeding behind the caller's back"
    assert found.certified(eps) <= robust.mean() and not (found.certified_at(eps) & ~robust).any()
    weak = empirical_robust(model, images, labels, eps, attack=pgd(steps=3, restarts=1))
    assert robust.mean() <= weak.mean()
    assert not robust.all(), "so far away lies an image of another class"


def test_autoattack_refuses_what_it_cannot_do(monkeypatch):
    pytest.importorskip("pyautoattack", reason="needs the extra `attacks`")
    images, labels = (part[:2] for part in digits()[1])
    labels = network_in(trained("sll"), "float64")(pixels(images, "float64")).argmax(-1)
    with pytest.raises(InvalidProblem, match="one positive radius"):
        empirical_robust(trained("sll"), images, labels, np.array([0.1, 0.2]), attack=autoattack())
    monkeypatch.setitem(__import__("sys").modules, "pyautoattack", None)
    with pytest.raises(MissingDependency, match="sdplip\\[attacks\\]"):
        autoattack()


def test_radii_must_be_numbers():
    with pytest.raises(InvalidProblem, match="negative"):
        empirical_accuracy(linear(), torch.zeros(1, 2), torch.tensor([0]), -1.0, attack=pgd())

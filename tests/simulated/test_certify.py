"""Certification, attacks and solvers on the simulated device give what they give on the CPU."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.nn import CayleyConv2d, MaxMin, export_plain, models, rescaled
from sdplip.nn.initialise import initialise
from sdplip.robustness import arithmetic
from sdplip.robustness.attacks import attack_at, pgd
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.local import local_radii
from sdplip.robustness.tighten import tighten
from sdplip.solvers import MinTrace, solve
from sdplip.solvers.interior_point import InteriorPoint
from tests.simulated.device import SIM
from tests.training_runs import few

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def covered(monkeypatch):
    """It computes on the CPU, so its rounding is known."""
    monkeypatch.setattr(arithmetic, "COVERED", (*arithmetic.COVERED, "sim"))


def samples(n=12):
    data = few()
    return data.test.images[:n], data.test.labels[:n]


def _cayley():
    return nn.Sequential(CayleyConv2d(1, 4, 3, (8, 8)), MaxMin(), nn.Flatten(), nn.Linear(256, 10))


NETWORKS = {
    "sll": lambda: initialise(models.digits("sll")),
    "aol": lambda: initialise(models.digits("aol")),
    "spectral": lambda: initialise(models.digits("spectral")),
    "cayley": _cayley,
}


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_radii(name, precision):
    torch.manual_seed(0)
    model, (x, y) = NETWORKS[name]().eval(), samples()
    here = certify_accuracy(model, x, y, precision=precision)
    moved = copy.deepcopy(model).to(SIM)
    for images, labels in ((x, y), (x.to(SIM), y.to(SIM))):
        there = certify_accuracy(moved, images, labels, precision=precision)
        assert there.rounding == here.rounding
        np.testing.assert_allclose(there.radius, here.radius, rtol=1e-4, atol=1e-6)


def test_attacks_tightening_and_export():
    torch.manual_seed(0)
    layers = [rescaled(nn.Linear(64, 12), "sll"), nn.ReLU(), rescaled(nn.Linear(12, 10), "aol")]
    model, (x, y) = nn.Sequential(nn.Flatten(), *layers).to(SIM).eval(), samples(6)
    found = certify_accuracy(model, x, y)
    left = attack_at(model, x, y, found, ("36/255", "1"), attack=pgd(steps=3, restarts=2))
    assert all(left[eps] >= found.certified(eps) for eps in left)
    assert (local_radii(model, x, y, found).after.radius >= found.radius).all()
    assert (tighten(model, x, y).after.radius >= found.radius).all()
    assert export_plain(model).bound.value <= 1 + 1e-6


def test_scalings():
    W = np.random.default_rng(0).normal(size=(12, 16))
    here, there = (solve(MinTrace(W), InteriorPoint(device=device)) for device in ("cpu", "sim"))
    assert there.status == here.status
    np.testing.assert_allclose(there.t, here.t, rtol=1e-6)

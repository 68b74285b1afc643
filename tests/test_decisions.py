"""Brittle decisions, abstention, conformal sets under attack, margin consistency."""

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem
from sdplip.robustness.arithmetic import network_in
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.conformal import calibrate, robust_sets, worst_coverage
from sdplip.robustness.consistency import MarginConsistency, margin_consistency
from sdplip.robustness.decisions import ABSTAIN, brittleness, class_scores, decide
from sdplip.robustness.descent import minimise, smallest_change
from sdplip.robustness.radii import class_radii
from tests.trained import digits, trained

torch.set_num_threads(1)
R = np.array([[0.8, -0.8, -2.0], [-0.1, 0.1, -0.5], [0.0, 0.0, -1.0], [-3.0, -0.4, 0.4]])


def test_by_hand():
    assert decide(R, 0.3).tolist() == [0, ABSTAIN, ABSTAIN, 2]
    found = brittleness(R, 0.3, np.array([0, 1, 2, 1]))
    assert found.brittle.tolist() == [False, True, True, False] and found.share == 0.5
    assert found.accuracy == (0.5, 0.5, 0.5) and "50.0 % of 4 decisions are brittle" in str(found)
    assert brittleness(R, 0.8).brittle[0], "a radius of eps itself is not above it"
    assert np.isnan(brittleness(R, 9.0, np.zeros(4, int)).accuracy[1])


def test_sets_by_hand():
    """Of four calibration scores 0.8, 0.1, -1, -0.4 the floor(0.4 * 5) = 2nd smallest is -0.4."""
    assert calibrate(R, np.array([0, 1, 2, 1]), alpha=0.4) == -0.4
    assert calibrate(R, np.array([0, 1, 2, 1]), alpha=0.19) == -np.inf, "four data promise no more than 1 / 5"
    assert robust_sets(R, -0.4).sum(1).tolist() == [1, 2, 2, 2]
    assert robust_sets(R, -0.4, 0.5).sum(1).tolist() == [2, 3, 2, 2]
    assert robust_sets(R, -np.inf).all()
    assert worst_coverage(R, np.array([0, 1, 2, 1]), -0.4, 0.4) == 0.5


def test_scores_enclose_and_certify():
    """Ends of the exact network: those of float32 contain those of the same numbers in double, and give the same certificate."""
    images, labels = (part[:40] for part in digits()[1])
    single = class_scores(trained("sll"), images, precision="float32")
    exact = network_in(trained("sll"), "float32").double()
    double = class_scores(exact, images / 255)
    assert (single.below <= double.below).all() and (double.above <= single.above).all()
    assert single.rounding == "proven" and 0 < (double.above - double.below).max() < 1e-9
    found = certify_accuracy(trained("sll"), images, labels, scope="exact")
    here = class_scores(trained("sll"), images)
    assert np.maximum(here.below.max(1), 0) == pytest.approx(found.radius, rel=1e-9, abs=1e-12)
    assert (decide(here, 0.5) != ABSTAIN).mean() == pytest.approx((found.radius > 0.5).mean())
    report = brittleness(here, 0.5, labels)
    assert report.accuracy[1] >= report.accuracy[0] >= report.accuracy[2]


def test_sets_cover_under_attack():
    """Coverage on held-out digits at every attacked input, and what the same attack does to ordinary sets."""
    images, labels = digits()[1]
    model, alpha, eps = trained("sll"), 0.1, 0.5
    scores = class_scores(model, images)
    q = calibrate(scores.below[:150], labels[:150], alpha=alpha)
    x, y, network = images[150:].double() / 255, labels[150:], network_in(model, "float64")
    own = nn.functional.one_hot(y, 10).bool()

    def score(z):
        s = network(z)
        return s[own] - s.masked_fill(own, -torch.inf).amax(1)

    moved = minimise(score, x, eps, steps=10, restarts=1, box=(0, 1)).x
    attacked = class_scores(model, moved)
    rows = np.arange(len(y))
    robust = robust_sets(attacked, q, eps)[rows, y]
    ordinary = robust_sets(attacked, q)[rows, y].mean()
    clean = class_scores(model, images[150:])
    assert robust[clean.below[rows, y] >= q].all(), "who was covered before the attack still is"
    assert robust.mean() >= 1 - alpha - 0.1, "three standard deviations of 147 draws"
    assert worst_coverage(clean, y, q, eps) <= ordinary < robust.mean()
    sizes = [robust_sets(clean, q, e).sum(1).mean() for e in (0, 0.5, 1.0)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_coverage_holds_on_average():
    """Synthetic scores, 2,000 draws of 39 calibration data and one new one: 1 - alpha exactly, since 40 alpha is whole."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(2000):
        r = rng.standard_normal((40, 3))
        y = rng.integers(0, 3, 40)
        hits += robust_sets(r[39:], calibrate(r[:39], y[:39], alpha=0.25))[0, y[39]]
    assert abs(hits / 2000 - 0.75) < 4 * (0.25 * 0.75 / 2000) ** 0.5


def test_smallest_changes_of_a_plane_are_found():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    w = torch.tensor([2.0, 1.0, -2.0], dtype=torch.float64)
    found = smallest_change(lambda z: (z @ w) * (x @ w).sign(), x, 6.0, halvings=16)
    assert (
        torch.allclose(found.distance, abs(x @ w) / 3, atol=2e-4)
        and (found.distance >= abs(x @ w) / 3 - 1e-9).all()
    )
    none = smallest_change(lambda z: 1 + 0 * z.sum(1), x, 1.0)
    assert torch.isinf(none.distance).all() and torch.equal(none.x, x)


def test_margin_consistency_is_a_theorem():
    """No attack gets below the certified radius; the radius of pairs orders distances at least as well as the margin."""
    images, _ = (part[:60] for part in digits()[1])
    found = margin_consistency(trained("orthogonal"), images, steps=8, halvings=6)
    assert (found.radius <= found.attacked).all() and 0.3 < np.median(found.tightness) <= 1
    assert found.order("radius") > 0.6 and found.order("radius") > found.order("margin") - 0.05
    area, false = found.detection(float(np.median(found.attacked)))
    assert area > 0.85 and 0 <= false < 0.9


def test_scores_of_consistency_by_hand():
    found = MarginConsistency(
        np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4]), np.array([2.0, 4, 6, np.inf])
    )
    assert found.order() == 1 and found.order("margin") == pytest.approx(2 / 3)
    assert found.detection(5) == (1.0, 0.0) and found.detection(5, "margin") == (0.75, 0.5)
    assert found.tightness.tolist() == [0.5, 0.5, 0.5, 0] and np.isnan(found.detection(1)).all()


def test_a_network_without_a_bound_has_radii_0():
    class Square(nn.Module):
        def forward(self, x):
            return x * x

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), Square(), nn.Linear(8, 2))
    found = margin_consistency(model, torch.rand(5, 1, 4, 4), steps=5, halvings=2)
    assert (found.radius == 0).all() and (found.attacked > 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: decide(R, -1.0), "`eps`"),
        (lambda: decide(R[0], 1.0), "signed radii"),
        (lambda: brittleness(R, 0.1).accuracy, "labels"),
        (lambda: brittleness(R, 0.1, np.array([0, 1, 2, 3])), "between 0 and 2"),
        (lambda: calibrate(R, np.zeros(4, int), alpha=1.0), "`alpha`"),
        (lambda: calibrate(R, np.zeros(4), alpha=0.1), "whole numbers"),
        (lambda: robust_sets(R, float("nan")), "NaN"),
        (lambda: worst_coverage(R, np.zeros(4, int), 0.0, float("nan")), "`eps`"),
        (lambda: MarginConsistency(R[:, 0], R[:, 0], R[:, 0]).order("x"), "`score`"),  # type: ignore[arg-type]
        (lambda: class_scores(nn.Linear(2, 2), torch.zeros(3)), "`images`"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(InvalidProblem, match=message):
        call()


def test_one_logit_has_two_columns():
    model = nn.Sequential(nn.Linear(3, 1)).double()
    x = torch.rand(5, 3, dtype=torch.float64)
    found = class_scores(model, x)
    assert found.below == pytest.approx(
        class_radii(model(x), float(found.constants))
    ) and found.below.shape == (5, 2)

"""Certified radii: numbers by hand, ties, zero constants, rounding down against rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem
from sdplip.nn import LastLayerNormalised, lipschitz, pairwise_lipschitz
from sdplip.robustness.radii import (
    MarginError,
    certified_radius,
    joint_constant,
    margins,
    predictions,
    separate_constant,
)


def test_by_hand():
    """Class 0 leads by 1 and by 2; constants 4 and 1: the nearer limit is 1/4."""
    L = np.array([[0, 4, 1], [4, 0, 1], [1, 1, 0]])
    assert certified_radius(np.array([[3.0, 2.0, 1.0]]), L) == pytest.approx([0.25], abs=1e-15)
    assert certified_radius(np.array([[3.0, 2.0, 1.0]]), joint_constant(2.0)) == pytest.approx([1 / 8**0.5])
    assert certified_radius(np.array([[3.0, 2.0, 1.0]]), separate_constant(2.0)) == pytest.approx([0.25])


@pytest.mark.parametrize(
    "logits", [[1.0, 1.0, 0.0], [np.nan, 1.0, 0.0], [np.inf, 1.0, 0.0], [-np.inf, 1.0, 0.0]]
)
def test_ties_and_numbers_that_are_not_finite_have_radius_0(logits):
    assert certified_radius(np.array([logits]), 1.0) == [0]


def test_zero_constants():
    """Rows that are equal keep their margin for ever, whether it is a lead or a tie."""
    L = np.array([[0, 0, 1.0], [0, 0, 1.0], [1.0, 1.0, 0]])
    assert certified_radius(np.array([[2.0, 1.0, 0.0]]), L) == pytest.approx([2])
    assert certified_radius(np.array([[2.0, 2.0, 0.0]]), L) == [0]
    assert certified_radius(np.array([[2.0, 1.0, 0.0]]), 0.0) == [np.inf]


def test_identical_rows_of_a_head():
    head = LastLayerNormalised(4, 3)
    with torch.no_grad():
        head.weight[1] = head.weight[0]
        head.bias.copy_(torch.tensor([0.5, 0.0, -9.0]))
    model = nn.Sequential(nn.Identity(), head)
    bound = pairwise_lipschitz(model)
    radius = certified_radius(model(torch.zeros(1, 4)), bound)
    assert bound.values[0, 1] == 0 and np.isfinite(radius).all()
    assert radius == pytest.approx(9.5 / bound.values[0, 2])


def test_rounded_down():
    """Never above the quotient in rational arithmetic, and at most a few units below."""
    rng = np.random.default_rng(0)
    logits, L = rng.standard_normal((200, 5)).astype(np.float32), 1 + rng.random((5, 5))
    radius, winner = certified_radius(logits, L), predictions(logits)
    for s, r, y in zip(logits.tolist(), radius.tolist(), winner.tolist(), strict=True):
        exact = min((Fraction(s[y]) - Fraction(s[j])) / Fraction(L[y, j]) for j in range(5) if j != y)
        assert exact * (1 - Fraction(1, 2**50)) <= Fraction(r) <= exact


def test_laws():
    """Renaming classes renames; a common shift changes nothing; scaling logits scales radii; joint never beats pairs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), LastLayerNormalised(8, 5))
    pairs, logits = pairwise_lipschitz(model), model(torch.randn(50, 6)).detach().double()
    radius, order = certified_radius(logits, pairs), torch.randperm(5)
    assert certified_radius(logits[:, order], pairs.values[order][:, order]) == pytest.approx(radius)
    assert certified_radius(logits + 3, pairs) == pytest.approx(radius, abs=1e-12)
    assert certified_radius(4 * logits, pairs) == pytest.approx(4 * radius)
    assert (certified_radius(logits, joint_constant(lipschitz(model))) <= radius).all()


def test_error_is_subtracted():
    """(2 - 1/2) / (1 + 1/2) = 1; an error as large as the margin leaves nothing."""
    logits, half = np.array([[2.0, 0.0]]), np.full((1, 2), 0.5)
    assert certified_radius(logits, 1.0, error=MarginError(half, half)) == pytest.approx([1])
    assert certified_radius(logits, 1.0, error=MarginError(4 * half, half)) == [0]
    assert certified_radius(logits, 1.0, error=MarginError(half * np.inf, half)) == [0]
    assert certified_radius(logits, 0.0, error=MarginError(half, half)) == pytest.approx([3])
    assert margins(logits)[0, 1] <= 2


@pytest.mark.parametrize(
    ("logits", "constants", "message"),
    [
        (np.zeros(3), 1.0, r"\(batch, classes\)"),
        (np.zeros((2, 3)), np.ones((2, 2)), r"\(3, 3\)"),
        (np.zeros((2, 3)), -1.0, "negative"),
        (np.zeros((2, 3)), np.nan, "NaN"),
    ],
)
def test_refusals(logits, constants, message):
    with pytest.raises(InvalidProblem, match=message):
        certified_radius(logits, constants)

"""Rounding measured beside a twin in double precision, against exact rational arithmetic."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.nn import MaxMin, Residual, Scale, Sum, export_plain, lipschitz, models, rescaled
from sdplip.nn.initialise import initialise
from sdplip.robustness import absolute
from sdplip.robustness.arithmetic import network_in, plain_arithmetic
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.forward_error import forward_error
from sdplip.robustness.twin import Measured, measured

torch.set_num_threads(1)


def deep(depth=8, width=24, seed=0):
    torch.manual_seed(seed)
    sizes = [16, *[width] * (depth - 1)]
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, 5)).eval()


def analysed(network, shape):
    with plain_arithmetic():
        network = network_in(network, "float32")
        bound = lipschitz(network, input_shape=shape)
        return network, measured(network, bound, forward_error(network, bound))


def exact(network, x):
    """The logits of a dense network of ReLU in rational numbers."""
    z = [Fraction(float(v)) for v in x]
    for layer in network:
        if isinstance(layer, nn.ReLU):
            z = [max(v, Fraction(0)) for v in z]
        else:
            rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
            z = [sum((Fraction(w) * v for w, v in zip(row, z, strict=True)), Fraction(b)) for row, b in rows]
    return z


@pytest.mark.parametrize("seed", range(4))
def test_true_errors_of_margins_lie_below(seed):
    """Much nearer than the a-priori bound, and never above: adversarial sizes of the weights included."""
    network, analysis = analysed(deep(4, 12, seed), (16,))
    assert isinstance(analysis, Measured)
    with torch.no_grad():
        if seed == 3:
            network[0].weight *= 1e4
            network[2].weight *= 1e-4
            network, analysis = analysed(network, (16,))
    x = torch.rand(6, 16)
    with plain_arithmetic():
        logits, lost = analysis(x)
    assert lost.measured is not None
    assert (lost.measured <= lost.constant).all() and (lost.measured < 0.2 * lost.constant).any()
    for row in range(len(x)):
        truth, found = exact(network, x[row]), [Fraction(v) for v in logits[row].tolist()]
        y = int(logits[row].argmax())
        for j in range(len(truth)):
            off = abs((found[y] - found[j]) - (truth[y] - truth[j]))
            assert off <= Fraction(float(lost.measured[row, j]))
    with plain_arithmetic():
        every, most = analysis.everywhere(x)
    others = np.where(np.eye(5, dtype=bool)[logits.argmax(1)], 0.0, lost.measured)
    assert torch.equal(every, logits) and (most >= others.max(1) * (1 - 1e-9)).all()
    assert (most <= analysis.single.everywhere(x)[1]).all()


def test_single_precision_costs_nothing_at_the_image():
    """ "exact" speaks of the exact network; of the network as it computes, at every image around, half of the cost is left."""
    model, images = deep(), torch.rand(40, 16)
    labels = model(images).argmax(1)
    wide, exact32, computed32 = (
        certify_accuracy(model, images, labels, precision=precision, scope=scope)
        for precision, scope in (("float64", "computed"), ("float32", "exact"), ("float32", "computed"))
    )
    right = (wide.prediction == exact32.prediction) & (wide.radius > 0)
    lost = (wide.radius - exact32.radius)[right]
    assert lost.min() > -1e-10 and lost.max() < 1e-5
    assert (computed32.radius <= exact32.radius).all()
    _, analysis = analysed(model, (16,))
    assert isinstance(analysis, Measured)
    with plain_arithmetic():
        before = analysis.single(images)[1].here_and_around()
        after = analysis(images)[1].here_and_around()
    assert (after.constant < 0.6 * before.constant).all()


def test_modules_with_parts():
    branches = [nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), MaxMin(), Scale(0.25)), nn.Identity()]
    torch.manual_seed(0)
    model = nn.Sequential(
        Sum(branches), Residual(nn.Conv2d(2, 2, 1)), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)
    ).eval()
    _, analysis = analysed(model, (2, 4, 4))
    assert isinstance(analysis, Measured)


def test_networks_that_compute_their_weights_have_no_twin():
    """In double precision they would be other networks. Their exported form stores what they compute with."""
    dense = nn.Sequential(rescaled(nn.Linear(16, 8), "aol"), nn.ReLU(), nn.Linear(8, 3)).eval()
    assert not isinstance(analysed(dense, (16,))[1], Measured)
    blocks = initialise(models.digits("sll")).eval()
    assert not isinstance(analysed(blocks, (1, 8, 8))[1], Measured)
    assert isinstance(analysed(export_plain(blocks).model, (1, 8, 8))[1], Measured)


def test_overflow_leaves_what_is_known():
    network, analysis = analysed(deep(2, 4), (16,))
    with plain_arithmetic():
        _, lost = analysis(torch.full((1, 16), 3e38))
    assert np.isinf(lost.measured).all() or not np.isnan(lost.measured).any()
    assert network[0].weight.dtype == torch.float32


def test_norms_of_equal_numbers_are_proven_once(monkeypatch):
    """A network and its twin: as many norms as the network has layers, in front of its head."""
    proven = []
    norm = absolute._norm
    monkeypatch.setattr(absolute, "_NORMS", {})
    monkeypatch.setattr(absolute, "_norm", lambda factors: proven.append(factors) or norm(factors))
    analysed(deep(5), (16,))
    assert len(proven) == 4
    analysed(deep(5, seed=1), (16,))
    assert len(proven) == 8

"""Pairs of points on both sides of a decision boundary, made in rational arithmetic: no certificate reaches across, in any format.

Half of the points lie as near to the boundary as their format can tell, or nearer.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.nn import MaxMin, Scale, by_blocks
from sdplip.nn.residual import ResidualLinear
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.half import HALVES

torch.set_num_threads(1)

CASES = [
    ("float64", "computed"), ("float64", "exact"), ("float32", "computed"), ("float32", "exact"), ("bfloat16", "exact"),
    ("float16", "exact"),
]  # fmt: skip
DTYPES = {"float64": torch.float64, "float32": torch.float32, **HALVES}


def held(weight, precision):
    """Numbers of the format."""
    return weight.to(DTYPES[precision]).double()


def rational(x):
    return [Fraction(float(v)) for v in x]


def product(rows, z):
    return [sum((a * b for a, b in zip(row, z, strict=True)), Fraction(0)) for row in rows]


def logits(layers, x):
    """In rational numbers, ReLU between the layers."""
    z = rational(x)
    for k, rows in enumerate(layers):
        z = product(rows, z if k == 0 else [max(v, Fraction(0)) for v in z])
    return z


def near(layers, seed):
    """Points on a segment between two classes, at distances from the boundary that shrink down to nothing a format can tell."""
    rng = np.random.default_rng(seed)
    a, b = next(
        (a, b)
        for a, b in rng.standard_normal((1000, 2, len(layers[0][0])))
        if np.argmax(logits(layers, a)) != np.argmax(logits(layers, b))
    )
    y, low, high = int(np.argmax(logits(layers, a))), 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if int(np.argmax(logits(layers, a + middle * (b - a)))) == y:
            low = middle
        else:
            high = middle
    steps = [0.5**k for k in range(1, 60, 4)]
    return np.array([a + low * (1 - step) * (b - a) for step in steps] + [a + high * (b - a)])


def inside(point, radius, others):
    """Points that are no farther than `radius`, in rational numbers, in the directions of the others and of the axes."""
    for direction in [*(others - point), *np.eye(len(point)), *-np.eye(len(point))]:
        length = np.linalg.norm(direction)
        if length > 0:
            there = point + direction / length * radius * (1 - 1e-9)
            square = sum((a - b) ** 2 for a, b in zip(rational(there), rational(point), strict=True))
            if square <= Fraction(float(radius)) ** 2:
                yield there


def networks(precision, seed):
    torch.manual_seed(seed)
    scale = [1.0, 30.0, 0.01][seed % 3]
    linear = nn.Sequential(nn.Linear(6, 3, bias=False))
    deep = nn.Sequential(
        nn.Linear(5, 8, bias=False),
        nn.ReLU(),
        nn.Linear(8, 8, bias=False),
        nn.ReLU(),
        nn.Linear(8, 3, bias=False),
    )
    for network in (linear, deep):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(held(parameter * scale, precision))
        yield network.double() if precision == "float64" else network


@pytest.mark.parametrize(("precision", "scope"), [*CASES, ("float32", "computed by blocks")])
@pytest.mark.parametrize("seed", range(3))
def test_no_certificate_reaches_across_the_boundary(precision, scope, seed):
    reached = 0.0
    scope, blocks = scope.removesuffix(" by blocks"), scope.endswith("by blocks")
    for network in networks(precision, seed):
        layers = [
            [rational(row) for row in m.weight.detach().double().numpy()]
            for m in network
            if isinstance(m, nn.Linear)
        ]
        x = near(layers, seed)
        x = x.astype(np.float32).astype(float) if precision != "float64" else x
        found = certify_accuracy(
            by_blocks(network, 2) if blocks else network,
            torch.from_numpy(x),
            torch.zeros(len(x), dtype=torch.long),
            precision=precision,
            scope=scope,
        )
        for point, prediction, radius in zip(x, found.prediction, found.radius, strict=True):
            exact = logits(layers, point)
            if radius <= 0:
                continue
            assert prediction == int(np.argmax(exact))  # nothing is certified of a wrong prediction
            for there in inside(point, radius, x[[0, -1]]):
                assert int(np.argmax(logits(layers, there))) == prediction
            if len(layers) > 1:
                continue
            (rows,) = layers
            for j in {0, 1, 2} - {int(prediction)}:
                apart = [u - v for u, v in zip(rows[prediction], rows[j], strict=True)]
                square, margin = sum(v * v for v in apart), exact[prediction] - exact[j]
                assert (
                    Fraction(float(radius)) ** 2 * square <= margin * margin
                )  # the distance of the boundary
                reached = max(reached, float(radius) / float(margin) * float(square) ** 0.5)
    assert reached > 0.9, "far from the boundary a certificate comes near it"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_decides_as_its_pass_does(precision):
    """Predictions are those of the pass, wrong ones have no radius, and the points lost are those that the format cannot tell."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Flatten(),
        nn.Linear(48, 32),
        MaxMin(-1),
        nn.Linear(32, 16),
        nn.ReLU(),
        Scale(0.7),
        nn.Linear(16, 4),
    )
    images = torch.randint(0, 256, (300, 3, 4, 4), dtype=torch.uint8)
    labels = torch.zeros(300, dtype=torch.long)
    found = certify_accuracy(network, images, labels, precision=precision, scope="exact")
    lower = network.to(HALVES[precision])
    with torch.no_grad():
        computed = lower((images.double() / 255).to(HALVES[precision]))
    assert np.array_equal(found.prediction, computed.double().argmax(-1).numpy())
    twin = lower.double()
    exact = certify_accuracy(twin, images, labels)
    assert np.array_equal(exact.bound.value, found.bound.value)
    assert (found.radius <= exact.radius + 1e-9).all()
    assert ((found.radius == 0) | (found.prediction == exact.prediction)).all()
    assert (found.radius > 0).mean() > 0.5
    assert found.radius.mean() > 0.5 * exact.radius.mean()


def test_what_half_precision_does_not_prove():
    network, x, y = nn.Sequential(nn.Linear(4, 3)), torch.rand(2, 4), torch.zeros(2, dtype=torch.long)
    with pytest.raises(InvalidProblem, match='scope "exact"'):
        certify_accuracy(network, x, y, precision="bfloat16")
    with pytest.raises(InvalidProblem, match="precision"):
        certify_accuracy(network, x, y, precision="float8", scope="exact")
    with pytest.raises(RefusedModule, match="export_plain"):
        certify_accuracy(
            nn.Sequential(ResidualLinear(4, 8), nn.Linear(4, 3)), x, y, precision="float16", scope="exact"
        )
    with pytest.raises(RefusedModule, match="no weights"):
        certify_accuracy(nn.Sequential(nn.ReLU()), x, y, precision="float16", scope="exact")


def test_overflow_of_a_half_pass_proves_nothing():
    network = nn.Sequential(nn.Linear(4, 3, bias=False))
    nn.init.constant_(network[0].weight, 6e4)
    found = certify_accuracy(
        network, torch.rand(3, 4) + 0.5, torch.zeros(3, dtype=torch.long), precision="float16", scope="exact"
    )
    assert (found.radius == 0).all()

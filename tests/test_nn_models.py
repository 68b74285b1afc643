"""Presets: parameter counts of the papers, shapes, and proven bounds of what can be built in a test."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sdplip.nn import initialise
from sdplip.nn.bound import lipschitz, pairwise_lipschitz
from sdplip.nn.export import export_plain
from sdplip.nn.models import (
    DIGITS,
    MNIST,
    Plan,
    aol,
    cifar_small,
    convnet,
    cpl,
    digits,
    liresnet,
    mnist,
    orthogonal_network,
    residual_network,
    sll,
)


def count(model: nn.Module) -> float:
    """Millions of parameters."""
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


@pytest.mark.parametrize(
    ("size", "ten", "hundred", "tiny"),
    [
        ("S", 41.4, 41.7, 167.5),
        ("M", 78.8, 79.2, 317.8),
        ("L", 118.3, 118.8, 476.7),
        ("XL", 236.5, 237.1, 950),
    ],
)
def test_sll_has_the_published_numbers_of_parameters(size, ten, hundred, tiny):
    """Published with one decimal, some of them rounded up; the last is published as 950."""
    with torch.device("meta"):
        assert count(sll(size)) == pytest.approx(ten, abs=0.06)
        assert count(sll(size, classes=100)) == pytest.approx(hundred, abs=0.06)
        assert count(sll(size, classes=200, image=(3, 64, 64))) == pytest.approx(
            tiny, abs=0.06 if tiny < 900 else 0.5
        )


def test_counts_by_hand():
    with torch.device("meta"):
        convolution = 5 * 45 * 9 + 5 + 5  # weight, bias, q
        dense = 2880 * 2048 + 2048 + 2048
        assert sum(p.numel() for p in sll("S").parameters()) == 20 * convolution + 7 * dense + 2880 * 10 + 10
        without_q = 20 * 5 + 7 * 2048
        assert count(cpl("S")) == pytest.approx(count(sll("S")) - without_q / 1e6, abs=1e-9)
        assert count(aol("S")) == count(cpl("S"))


@pytest.mark.parametrize(("size", "millions"), [("XS", 1.57), ("S", 6.28), ("M", 25.1), ("L", 100.5)])
def test_convnet_has_the_published_numbers_of_parameters(size, millions):
    with torch.device("meta"):
        assert count(convnet(size, "cpl")) == pytest.approx(millions, rel=0.005)  # published without biases


@pytest.mark.parametrize(("scaling", "tight"), [("sll", False), ("spectral", False), ("aol", True)])
def test_digits_networks_are_1_lipschitz_up_to_their_head(scaling, tight):
    torch.manual_seed(0)
    model = digits(scaling)
    model = (initialise(model) if tight else model).eval()
    pairs = pairwise_lipschitz(model, input_shape=DIGITS.image)
    assert pairs.backbone.value <= 1 + 1e-5
    assert pairs.values.max() <= 2 + 1e-5


def test_digits_networks_can_be_exported():
    torch.manual_seed(0)
    model = digits().eval()
    export = export_plain(model, input_shape=DIGITS.image)
    x = torch.rand(3, 1, 8, 8)
    assert torch.allclose(export.model(x), model(x), atol=1e-5)
    assert all(part.value <= 1 + 1e-5 for part in export.bound.parts[:-1])


@pytest.mark.parametrize(("build", "image"), [(mnist, (1, 28, 28)), (cifar_small, (3, 32, 32))])
def test_small_presets_run(build, image):
    model = build().eval()
    assert model(torch.zeros(2, *image)).shape == (2, 10)


def test_subtracted_means_cost_nothing():
    model = residual_network(Plan(1, 1, 4, hidden=8, image=(3, 8, 8)), mean=(0.5, 0.4, 0.3))
    assert pairwise_lipschitz(model).backbone.value <= 1 + 1e-5


def test_orthogonal_networks_keep_every_gradient():
    torch.manual_seed(0)
    model = orthogonal_network(Plan(2, 2, 3, hidden=16, pool=2, image=(1, 8, 8))).eval()
    pairs = pairwise_lipschitz(model, input_shape=(1, 8, 8))
    assert pairs.backbone.value <= 1 + 1e-4
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    "layer", ["aol", "sll", "orthogonal", "aoc"]
)  # norms by Gram iteration take a minute to build
def test_convnets_run(layer):
    torch.manual_seed(0)
    model = convnet("XS", layer).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_one_block_of_the_convnet_is_1_lipschitz():
    torch.manual_seed(0)
    model = convnet("XS", "aol").eval()
    first = nn.Sequential(*list(model)[:5])
    assert lipschitz(first, input_shape=(3, 32, 32)).value <= 1 + 1e-5
    assert lipschitz(nn.Sequential(*list(model)[-4:]), input_shape=(512, 1, 1)).value <= 1 + 1e-5


def test_liresnet_blocks_are_bounded_as_one_convolution_each():
    torch.manual_seed(0)
    model = liresnet(8, 2)
    bound = lipschitz(model)
    blocks = [part for part in bound.parts if "Residual" in part.name]
    assert len(blocks) == 2
    assert all(block.value < block.others[0].value for block in blocks)  # |I + C| below 1 + |C|
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_dense_orthogonal_network_pads_no_channel():
    plan = replace(MNIST, width=1, convolutions=0, pool=1, hidden=16)
    model = orthogonal_network(plan)
    assert next(m for m in model if isinstance(m, nn.Linear)).in_features == 28 * 28

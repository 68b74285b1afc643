"""Shifts, lengths and the blocks made of them: known answers, constants by hand, refusals."""

import math

import pytest
import torch
from torch import nn

from sdplip.errors import InvalidWeight, UnsupportedConvolution
from sdplip.nn import (
    BetaAbs,
    CenterNorm,
    ChannelScale,
    GlobalL2Pool,
    LipNeXtBlock,
    LipShiFTBlock,
    MaxMin,
    PositionalBias,
    Shift2d,
    lipschitz,
)

torch.set_num_threads(1)


def test_shifts_by_hand():
    x = torch.arange(6.0).reshape(1, 1, 2, 3).repeat(1, 5, 1, 1)
    down, up, right, left, rest = Shift2d(5, 1)(x)[0]
    assert down.tolist() == up.tolist() == [[3, 4, 5], [0, 1, 2]]
    assert right.tolist() == [[2, 0, 1], [5, 3, 4]] and left.tolist() == [[1, 2, 0], [4, 5, 3]]
    assert rest.tolist() == x[0, 0].tolist()
    down, up, right, left, rest = Shift2d(5, 1, "zeros")(x)[0]
    assert down.tolist() == [[0, 0, 0], [0, 1, 2]] and up.tolist() == [[3, 4, 5], [0, 0, 0]]
    assert right.tolist() == [[0, 0, 1], [0, 3, 4]] and left.tolist() == [[1, 2, 0], [4, 5, 0]]
    one = torch.ones(1, 5, 1, 1)
    assert torch.equal(Shift2d(5, 1)(one), one) and Shift2d(5, 1, "zeros")(one).sum() == 1


def test_half_the_absolute_values_are_maxmin_between_rotations():
    x = torch.randn(20, 6, dtype=torch.float64)
    a, b = x.chunk(2, 1)
    rotated = torch.cat([a - b, a + b], 1) / math.sqrt(2)
    p, q = BetaAbs()(rotated).chunk(2, 1)
    torch.testing.assert_close(torch.cat([q + p, q - p], 1) / math.sqrt(2), MaxMin()(x))


def test_lengths_of_channels():
    x = torch.zeros(1, 3, 2, 2, requires_grad=True)
    y = GlobalL2Pool()(x + torch.tensor([0.0, 1.0, 3.0]).reshape(1, 3, 1, 1))
    assert y.tolist() == [[0, 2, 6]]
    y.sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_constants_by_hand():
    """Two channels: n / (n - 1) = 2, so the branch is (2 max |w|) (1 + max |alpha| |conv|) max |s|."""
    block = LipShiFTBlock(2, 0).double().eval()
    norm, inner, _, outer = block[1].branch
    conv, alpha = inner.branch
    with torch.no_grad():
        nn.init.dirac_(conv.weight)  # norm 1
        norm.weight.copy_(torch.tensor([0.5, -1.5]))
        alpha.factors.copy_(torch.tensor([0.25, -1.0]))
        outer.factors.copy_(torch.tensor([0.5, -0.25]))
    assert float(lipschitz(norm)) == pytest.approx(3, rel=1e-15)
    assert float(lipschitz(block)) == pytest.approx(1 + 0.5 * (1 + 1.0) * 3, rel=1e-10)
    assert float(lipschitz(ChannelScale(3, -0.7))) == pytest.approx(0.7, rel=1e-7)


def test_a_lipnext_block_starts_at_the_identity_turned():
    """Its second matrix starts at the transpose of the first, as M R' of the paper does with M = I."""
    torch.manual_seed(0)
    block = LipNeXtBlock(8, (3, 3), 2).double()
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    R = block.mix.weight[..., 0, 0]
    torch.testing.assert_close(block.turn.weight[..., 0, 0], R.mT)
    moved = torch.einsum("ij,bjhw->bihw", R.mT, block.shift(torch.einsum("ij,bjhw->bihw", R, x)))
    torch.testing.assert_close(block(x), BetaAbs()(moved))
    assert list(block._modules) == ["position", "mix", "shift", "turn", "activation"]


def test_what_is_refused():
    for arguments in ((3, 1), (8, -1), (8, 1, "reflect")):
        with pytest.raises(InvalidWeight, match=r"four groups|whole number"):
            Shift2d(*arguments)
    with pytest.raises(InvalidWeight, match="built for images of 8 channels"):
        Shift2d(8, 1)(torch.zeros(1, 9, 2, 2))
    for shape in ((1, 2, 4, 3), (1, 5, 3, 3), (1, 1, 3, 3)):
        with pytest.raises(UnsupportedConvolution, match="Build one"):
            PositionalBias((3, 3), 2)(torch.zeros(shape))
    with pytest.raises(ValueError, match="share of the channels"):
        BetaAbs(1.5)
    with pytest.raises(ValueError, match="leaves nothing"):
        CenterNorm(1)
    for layer in (CenterNorm(3), ChannelScale(3)):
        with pytest.raises(ValueError, match="built for 3 channels"):
            layer(torch.zeros(2, 1, 4))
    with pytest.raises(ValueError, match="batch of images"):
        GlobalL2Pool()(torch.zeros(2, 3))

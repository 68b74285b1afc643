"""Certificates of all pixels: against every choice of flips, against attacks, known answers, any image size."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.kernel.pixels import most_flips
from sdplip.nn import MaxMin, ResidualConv2d, lipschitz, pairwise_lipschitz, rescaled
from sdplip.robustness.arithmetic import network_in
from sdplip.robustness.dense import certify_dense
from sdplip.robustness.dense_error import pixel_error
from sdplip.robustness.descent import minimise
from sdplip.robustness.flips import Sides, least_share

torch.set_num_threads(1)


def segmenter(classes, head=True, seed=0):
    """A small network with the same number of pixels in and out, of any size that 2 divides."""
    torch.manual_seed(seed)
    body = [nn.PixelUnshuffle(2), ResidualConv2d(4, 8, 3), ResidualConv2d(4, 8, 3), nn.PixelShuffle(2)]
    last = [nn.Conv2d(1, classes, 1)] if head else [nn.Conv2d(1, classes, 3, padding=1)]
    return nn.Sequential(*body, *last).eval()


def pictures(n=6, side=6, seed=1):
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# What flips cost


def test_most_flips_against_every_set():
    rng = np.random.default_rng(0)
    for _ in range(40):
        costs, reach = rng.random(7) + 0.05, 1.5 * rng.random()
        sets = itertools.chain.from_iterable(itertools.combinations(range(7), k) for k in range(8))
        exact = max(len(S) for S in sets if sum(Fraction(costs[i]) ** 2 for i in S) <= Fraction(reach) ** 2)
        assert most_flips(costs, reach) == exact


def test_what_is_exactly_affordable_counts_as_flipped():
    assert most_flips(np.array([3.0, 4.0, 6.0]), 5.0) == 2
    assert most_flips(np.array([3.0, 4.0]), np.nextafter(5.0, 0) - 1e-12) == 1
    assert most_flips(np.array([0.0, 1.0]), 0.0) == 1 and most_flips(np.zeros(0), 3.0) == 0
    assert most_flips(np.array([1.0, 2.0]), np.inf) == 2 == most_flips(np.array([1.0, np.inf]), np.inf)


def test_least_share_against_every_choice():
    """Two images with changes of their own, all subsets of pixels that leave or join."""
    rng = np.random.default_rng(1)
    for _ in range(25):
        images, reaches, options = [], [], []
        for _ in range(2):
            signed, mask = rng.standard_normal(6), rng.random(6) < 0.5
            reach = 1.2 * rng.random()
            side = Sides.of(signed, mask)
            images.append(side)
            reaches.append(reach)
            flips = [(c, 1, 0) for c in side.inside] + [(c, 0, 1) for c in side.outside]
            options.append(
                {
                    (sum(a for _, a, _ in S), sum(b for _, _, b in S))
                    for k in range(len(flips) + 1)
                    for S in itertools.combinations(flips, k)
                    if sum(c * c for c, _, _ in S) <= reach * reach
                }
            )
        inside, union = sum(len(s.inside) for s in images), sum(s.union for s in images)
        if not union:
            continue
        exact = min((inside - a - c) / (union + b + d) for (a, b), (c, d) in itertools.product(*options))
        assert least_share(images, reaches) == pytest.approx(exact, abs=1e-15)


def test_share_by_hand():
    """Two of three right, costs 1 and 2, one outsider at cost 2: a reach of 1 takes one away, sqrt 5 both, or one and one."""
    side = Sides.of(np.array([1.0, 2.0, -0.5, -2.0]), np.array([True, True, True, False]))
    assert [least_share([side], [r]) for r in (0.5, 1.0, 2.0, 5**0.5 + 1e-9, 3.1)] == [
        2 / 3,
        1 / 3,
        1 / 3,
        0,
        0,
    ]
    assert np.isnan(least_share([Sides(np.zeros(0), np.ones(2), 0)], [0.1]))


# Certificates


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("head", [True, False])
def test_radii_of_all_pixels_move_as_one_vector(classes, head):
    """The law behind everything: 1-Lipschitz together, whichever class is looked at where; nearly attained along gradients."""
    model, x = segmenter(classes, head).double(), pictures(40)
    mask = torch.zeros(40, 6, 6, dtype=torch.long)
    g = torch.Generator().manual_seed(2)
    step = torch.randn(x.shape, generator=g, dtype=torch.float64)
    probe = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        model(probe)[:, :1].sum() - model(probe)[:, -1:].sum() * (classes > 1), probe
    )
    worst = 0.0
    for d in (step, 1e-3 * gradient):
        before, after = (certify_dense(model, z, mask, scope="exact").images for z in (x, x + d))
        for one, two, size in zip(before, after, d.flatten(1).norm(dim=1), strict=True):
            moved = np.square(two.signed - one.signed).max(0).sum() ** 0.5
            assert moved <= size * (1 + 1e-9)
            worst = max(worst, float(moved / size))
    assert worst > 0.2


def linear(weights, bias=0.0):
    """A 1 x 1 convolution of one channel: every pixel by itself, logits known by hand."""
    conv = nn.Conv2d(1, len(weights), 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(weights)[:, None, None, None])
        conv.bias.fill_(0.0)
        conv.bias[-1] = bias
    return nn.Sequential(conv)


def test_known_answers():
    """Logit 2 x - 1 of pixels 0.6, 0.9, 0.1, 0.5: distances to 1/2. Two of them together cost the root of the sum of squares."""
    x = torch.tensor([[[[0.6, 0.9], [0.1, 0.5]]]])
    mask = torch.tensor([[[1, 1], [1, 0]]])
    found = certify_dense(linear([2.0], -1.0), x, mask)
    assert found.radius == pytest.approx(np.array([[[0.1, 0.4], [0.4, 0.0]]]), abs=1e-7)
    assert found.prediction.tolist() == [[[1, 1], [0, 0]]] and found.clean == 0.5, "a tie is proven nowhere"
    assert [found.accuracy(r) for r in (0, 0.09, 0.11, 0.41, 0.42)] == [0.5, 0.5, 0.25, 0.25, 0]
    assert [found.each_pixel(r) for r in (0.09, 0.11, 0.39, 0.41)] == [0.5, 0.25, 0.25, 0]
    assert found.iou(0.09)[1] == pytest.approx(2 / 4), "0.5 may join, for it costs nothing"
    assert found.iou(0.11)[1] == pytest.approx(1 / 4) and found.pixels == 4
    assert found.dice(0.11)[1] == pytest.approx(2 / 5)


def test_pairs_are_those_of_the_head():
    """Logits (x, -x, 0): at x = 0.3 class 0 leads class 2 by 0.3 at slope 1, class 1 by 0.6 at slope 2."""
    found = certify_dense(
        linear([1.0, -1.0, 0.0]), torch.full((1, 1, 1, 2), 0.3), torch.zeros(1, 1, 2).long()
    )
    assert found.radius == pytest.approx(np.full((1, 1, 2), 0.3), abs=1e-6)
    assert found.constants == pytest.approx(np.array([[0, 2, 1], [2, 0, 1], [1, 1, 0]]))
    assert pairwise_lipschitz(linear([1.0, -1.0, 0.0])).values == pytest.approx(found.constants)
    assert found.accuracy(0.4) == 0.5 and found.accuracy(0.43) == 0


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("head", [True, False])
def test_no_attack_gets_below(classes, head):
    """Attacks on the number of right pixels, and on the intersection of class 0, below every certificate and not idle."""
    model, x = segmenter(classes, head), pictures(5)
    with torch.no_grad():
        out = model(x.float())
    mask = (out[:, 0] > 0).long() if classes == 1 else out.argmax(1)
    mask[:, 0] = 0  # some wrong pixels
    found, network = certify_dense(model, x, mask), network_in(model, "float64")
    spread = float(np.median(found.radius)) * 3
    moved = False
    for eps in (0.5 * spread, spread, 2 * spread):

        def right(z):
            s = network(z)
            s = torch.cat([0 * s, s], 1) if classes == 1 else s
            own = nn.functional.one_hot(mask, s.shape[1]).movedim(-1, 1).bool()
            return (s.masked_fill(~own, 0).sum(1) - s.masked_fill(own, -torch.inf).amax(1))  # fmt: skip

        hit = minimise(
            lambda z: torch.sigmoid(right(z) / (0.1 * spread)).flatten(1).sum(1), x, eps, steps=25, restarts=2
        )
        after = certify_dense(model, hit.x, mask)
        assert found.accuracy(eps) <= after.clean + 1e-12
        least, clean = found.iou(eps), after.iou(0)
        assert (least <= clean + 1e-12)[~np.isnan(least)].all() and found.mean_iou(eps) <= after.mean_iou(
            0
        ) + 1e-12
        assert found.each_pixel(eps) <= found.accuracy(eps), "together is never worse than each by itself"
        moved |= after.clean < found.clean
    assert moved and 0 < found.accuracy(spread) < found.clean


def test_each_pixel_keeps_its_class_below_its_radius():
    model, x = segmenter(3), pictures(4)
    mask = torch.zeros(4, 6, 6, dtype=torch.long)
    found = certify_dense(model, x, mask)
    network = network_in(model, "float64")
    y, flat = torch.from_numpy(found.prediction), torch.from_numpy(found.radius)
    for p in ((0, 0), (2, 3), (5, 5)):
        label, r = y[:, p[0], p[1]], flat[:, p[0], p[1]]

        def margin(z, label=label, p=p):
            s = network(z)[:, :, p[0], p[1]]
            own = nn.functional.one_hot(label, 3).bool()
            return s[own] - s.masked_fill(own, -torch.inf).amax(1)

        assert (minimise(margin, x, r * 0.999, steps=15, restarts=1).margin > 0).all() and (r > 0).all()


def test_one_bound_for_every_size():
    model = segmenter(2)
    sizes = [torch.rand(1, 4, 6), torch.rand(1, 8, 2), torch.rand(1, 8, 2)]
    masks = [torch.zeros(s.shape[1:], dtype=torch.uint8) for s in sizes]
    found = certify_dense(model, sizes, masks)
    assert [r.shape for r in found.radius] == [(4, 6), (8, 2), (8, 2)] and found.pixels == 24 + 32
    assert found.bound.value == lipschitz(network_in(model, "float64")).value
    alone = certify_dense(model, sizes[0][None], masks[0][None])
    assert alone.radius.shape == (1, 4, 6) and (alone.radius[0] >= found.radius[0] * (1 - 1e-9)).all()


def test_pixels_that_do_not_count():
    model, x = segmenter(2), pictures(2)
    mask = torch.randint(0, 2, (2, 6, 6), generator=torch.Generator().manual_seed(0))
    mask[:, :3] = 255
    found = certify_dense(model, x, mask, ignore=255)
    whole = certify_dense(model, x, mask % 255)
    assert found.pixels == 36 and (found.radius == whole.radius).all()
    right = (found.prediction == mask.numpy()) & (found.radius > 0)
    assert found.clean == right.sum() / 36
    with pytest.raises(InvalidProblem, match="`ignore=255`"):
        certify_dense(model, x, mask)
    with pytest.raises(InvalidProblem, match="No pixel counts"):
        certify_dense(model, x, torch.full((2, 6, 6), 255), ignore=255)


@pytest.mark.parametrize("head", [True, False])
def test_rounding_covers_what_single_precision_does(head):
    """Radii of the float32 network lie within the proven error of those of the same numbers in double, all pixels together."""
    model, x = segmenter(3, head), pictures(8).float()
    mask = torch.zeros(8, 6, 6, dtype=torch.long)
    found = certify_dense(model, x, mask, precision="float32", scope="exact")
    assert found.rounding == "proven" and found.precision == "float32"
    double = network_in(model, "float32").double()
    exact = certify_dense(double, x, mask, scope="exact")
    _, rho = pixel_error(network_in(model, "float32"), found.bound)(x)
    for one, two, error in zip(found.images, exact.images, rho.constant, strict=True):
        apart = np.square(one.signed - two.signed).max(0).sum() ** 0.5
        assert 0 < apart <= error < 1e-2 and one.constant == error
    around = certify_dense(model, x, mask, precision="float32")
    assert (around.radius <= found.radius).all() and around.images[0].slope > 1 == found.images[0].slope


def test_a_forward_of_its_own_is_followed():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = rescaled(nn.Conv2d(1, 4, 3, padding=1)), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.head(torch.relu(self.body(x)))

    torch.manual_seed(0)
    model, x, mask = Own().eval(), pictures(2), torch.zeros(2, 6, 6, dtype=torch.long)
    chain = nn.Sequential(model.body, nn.ReLU(), model.head)
    found, same = certify_dense(model, x, mask), certify_dense(chain, x, mask)
    assert found.rounding == "float64" and same.rounding == "proven"
    assert found.radius == pytest.approx(same.radius, rel=1e-6)
    with pytest.raises(RefusedModule):
        certify_dense(model, x, mask, precision="float32")


@pytest.mark.parametrize(
    ("x", "mask", "message"),
    [
        (pictures(2), torch.zeros(3, 6, 6).long(), "one mask an image"),
        (pictures(2), torch.zeros(2, 6, 6), "whole numbers"),
        (pictures(2), torch.zeros(2, 3, 3).long(), "does not fit masks"),
        (pictures(2) / 0, torch.zeros(2, 6, 6).long(), "finite"),
        (pictures(2), torch.full((2, 6, 6), 2), "the network has 2"),
        (pictures(2), torch.full((2, 6, 6), -1), "the network has 2"),
        (torch.rand(2, 3, 6, 6), torch.zeros(2, 6, 6).long(), "cannot run"),
    ],
)
def test_refusals(x, mask, message):
    with pytest.raises(InvalidProblem, match=message):
        certify_dense(segmenter(2), x, mask)


def test_a_linear_layer_on_the_last_axis_is_no_head_of_pixels():
    """Its rows are columns of the image; classes are the channels in front of them."""
    model = nn.Sequential(MaxMin(), nn.Linear(2, 2))
    found = certify_dense(model, torch.rand(1, 2, 3, 2), torch.zeros(1, 3, 2).long())
    assert found.constants[0, 1] == pytest.approx(2**0.5 * lipschitz(model).value)


@pytest.mark.parametrize("eps", ["x", -1.0, float("nan")])
def test_radii_that_are_no_numbers(eps):
    found = certify_dense(linear([1.0, -1.0]), pictures(1), torch.zeros(1, 6, 6).long())
    with pytest.raises(InvalidProblem, match="radius"):
        found.accuracy(eps)
    assert found.accuracy("36/255") == found.accuracy(Fraction(36, 255))

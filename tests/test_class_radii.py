"""Signed radii of all classes: every column 1-Lipschitz, the largest the certified radius; one logit is a sign."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem
from sdplip.network import Activation, Dense, chain
from sdplip.network.read.understood import Understood
from sdplip.nn import LastLayerNormalised, MaxMin, lipschitz, orthogonal, pairwise_lipschitz
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.graph_accuracy import certify_graph, images_file, network_file, save_certificate
from sdplip.robustness.local import local_radii_graph
from sdplip.robustness.radii import certified_radius, class_radii, joint_constant
from sdplip.verifier.verify import verify
from tests.trained import digits, trained

torch.set_num_threads(1)


def tight(outputs):
    """1-Lipschitz up to the head, and nearly so in every direction."""
    torch.manual_seed(0)
    return nn.Sequential(
        orthogonal(nn.Linear(12, 12)), MaxMin(), orthogonal(nn.Linear(12, 12)), MaxMin(), LastLayerNormalised(12, outputs)
    ).eval()  # fmt: skip


def test_by_hand():
    """Class 0 leads by 1 and 2 with constants 4 and 1; class 1 is behind by 1 / 4, class 2 by 2."""
    L = np.array([[0, 4, 1], [4, 0, 1], [1, 1, 0]])
    found = class_radii(np.array([[3.0, 2.0, 1.0]]), L)
    assert found == pytest.approx(np.array([[0.25, -0.25, -2.0]]), abs=1e-14)
    lost = class_radii(np.array([[3.0, 2.0, 1.0]]), L, lost=0.5)
    assert lost == pytest.approx(np.array([[0.125, -0.375, -2.5]]), abs=1e-14)
    kept = class_radii(np.array([[3.0, 2.0, 1.0]]), L, lost=0.5, above=True)
    assert kept == pytest.approx(np.array([[0.375, -0.125, -1.5]]), abs=1e-14)


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_every_column_is_1_lipschitz(classes):
    """Also along the worst direction, the gradient of a column; and the network is so tight that 0.9 would be wrong."""
    model = tight(classes).double()
    constants = lipschitz(model).value if classes == 1 else pairwise_lipschitz(model)
    g = torch.Generator().manual_seed(1)
    x = torch.randn(200, 12, generator=g, dtype=torch.float64, requires_grad=True)
    s = model(x)
    k = torch.randint(max(classes, 2), (200,), generator=g)
    mine = (
        s[:, 0] * (2 * k - 1)
        if classes == 1
        else (s.gather(1, k[:, None]) - s).scatter(1, k[:, None], torch.inf).amin(1)
    )
    (gradient,) = torch.autograd.grad(mine.sum(), x)
    steps = torch.cat([1e-3 * nn.functional.normalize(gradient), torch.randn(200, 12, generator=g).double()])
    moved = torch.cat([x, x]).detach() + steps
    before = class_radii(s, constants)
    after = class_radii(model(moved), constants)
    change = abs(after - np.concatenate([before, before])) / steps.norm(dim=1).numpy()[:, None]
    assert 0.9 < change.max() <= 1 + 1e-9


def test_the_largest_is_the_certified_radius():
    rng = np.random.default_rng(0)
    logits, L = rng.standard_normal((300, 6)), 1 + rng.random((6, 6))
    logits[:40, 3] = logits[:40, 2]  # ties
    found = class_radii(logits, L)
    assert (np.maximum(found.max(1), 0) == certified_radius(logits, L)).all()
    assert ((found > 0).sum(1) <= 1).all() and (found[:, 2][:40] <= 0).all()


def test_rounded_outward():
    rng = np.random.default_rng(0)
    logits, L = rng.standard_normal((60, 4)).astype(np.float32), 1 + rng.random((4, 4))
    low, high = class_radii(logits, L), class_radii(logits, L, above=True)
    for i, s in enumerate(logits.tolist()):
        for k in range(4):
            exact = min((Fraction(s[k]) - Fraction(s[j])) / Fraction(L[k, j]) for j in range(4) if j != k)
            assert Fraction(low[i, k]) <= exact <= Fraction(high[i, k])
            assert high[i, k] - low[i, k] <= 8 * np.spacing(abs(low[i, k]))


def test_margins_that_never_change_and_logits_that_are_no_numbers():
    L = np.array([[0, 0, 1.0], [0, 0, 1.0], [1.0, 1.0, 0]])
    assert class_radii(np.array([[2.0, 1.0, 0.0]]), L) == pytest.approx(np.array([[2, -np.inf, -2]]))
    assert class_radii(np.array([[2.0, 2.0, 0.0]]), L) == pytest.approx(np.array([[0, 0, -2]]))
    bad = np.array([[np.nan, 1.0, 0.0], [np.inf, 1.0, 0.0]])
    assert (class_radii(bad, 1.0) == -np.inf).all() and (class_radii(bad, 1.0, above=True) == np.inf).all()


@pytest.mark.parametrize(
    ("logits", "constants", "lost", "message"),
    [
        (np.zeros(3), 1.0, 0.0, r"\(batch, classes\)"),
        (np.zeros((2, 3)), np.ones((2, 2)), 0.0, r"\(3, 3\)"),
        (np.zeros((2, 1)), np.ones((1, 1)), 0.0, "decides by its sign"),
        (np.zeros((2, 1)), np.ones((2, 2)), 0.0, "decides by its sign"),
        (np.zeros((2, 3)), -1.0, 0.0, "negative"),
        (np.zeros((2, 3)), 1.0, -1.0, "`lost`"),
        (np.zeros((2, 3)), 1.0, np.nan, "`lost`"),
    ],
)
def test_refusals(logits, constants, lost, message):
    with pytest.raises(InvalidProblem, match=message):
        class_radii(logits, constants, lost=lost)


def affine():
    """f(x) = 3 x_0 + 4 x_1 - 1: the distance to its zeros is |f| / 5."""
    layer = nn.Linear(2, 1).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4.0]]))
        layer.bias.fill_(-1.0)
    return nn.Sequential(layer)


POINTS, SIGNS = torch.tensor([[0.5, 0.5], [0.0, 0.0], [1.0, 0.0], [-1.0, 1.0]]), torch.tensor([1, 0, 0, 0])
DISTANCES = [0.5, 0.2, 0.4, 0.0]


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_one_logit_is_a_sign(precision):
    """Never an infinite radius: the distance to the other side, known here by hand."""
    found = certify_accuracy(affine(), POINTS, SIGNS, precision=precision)
    near = 1e-12 if precision == "float64" else 1e-5
    assert (
        found.radius == pytest.approx(DISTANCES, abs=near)
        and (found.radius <= np.array(DISTANCES) + 1e-9).all()
    )
    assert found.correct.tolist()[:3] == [True, True, False] and found.certified("100") == 0
    assert found.constants[0, 1] == pytest.approx(5) and found.margin_constant == found.constants[0, 1]
    assert certified_radius(torch.tensor([[0.3], [-0.2]]), 1.0) == pytest.approx([0.3, 0.2])
    assert certified_radius(affine()(POINTS.double()), pairwise_lipschitz(affine())) == pytest.approx(
        DISTANCES
    )


def test_one_logit_behind_an_activation():
    """No linear head: the constant is that of the network, without the root of 2."""
    model = nn.Sequential(affine(), nn.LeakyReLU(0.5))
    found = certify_accuracy(model, POINTS, SIGNS)
    assert found.constants[0, 1] == pytest.approx(5) and joint_constant(5.0) > 7
    assert found.radius[0] == pytest.approx(0.5)


def test_one_logit_refuses_other_labels():
    with pytest.raises(InvalidProblem, match="0 and 1, the sign"):
        certify_accuracy(affine(), POINTS, torch.tensor([1, 0, 2, 1]))


def test_one_output_of_a_graph_is_a_sign_that_the_verifier_proves(tmp_path):
    network = chain(
        [
            Dense(np.array([[3.0, 4.0]]), np.array([-1.0])),
            Activation("leaky_relu", 1, {"negative_slope": 0.5}),
        ]
    )
    x, y = POINTS.double().numpy(), SIGNS.numpy()
    found = certify_graph(network, x, y)
    assert found.certification.radius == pytest.approx([0.5, 0.1, 0.4, 0.0], abs=1e-9)
    assert found.certification.prediction.tolist()[:3] == [1, 0, 1]
    nearer, larger = local_radii_graph(network, x, found)
    assert nearer.after.radius[1] == pytest.approx(0.2, abs=0.01), "behind the kink the slope is one half"
    path = tmp_path / "c.json"
    save_certificate(path, larger, Understood(network, {}), None, x, y)
    assert verify(path, network_file(path), images_file(path)).proven


def test_one_logit_of_a_trained_network_under_attack():
    """Zeros against the rest by the difference of two logits: no change below the radius turns the sign."""
    images, labels = (part[:60] for part in digits()[1])
    body = trained("sll")
    head = nn.Linear(10, 1)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0] + [-1 / 9] * 9]))
        head.bias.zero_()
    model = nn.Sequential(*body, head).double()
    found = certify_accuracy(model, images, (labels == 0).long())
    x = (images.double() / 255).requires_grad_()
    f = model(x)[:, 0]
    (gradient,) = torch.autograd.grad(f.sum(), x)
    length = gradient.flatten(1).norm(dim=1)
    step = (torch.from_numpy(found.radius) * 0.999 / length)[:, None, None, None] * gradient
    moved = (x - f.sign()[:, None, None, None] * step).detach()
    assert (model(moved)[:, 0].sign() == f.sign()).all() and 0.01 < found.radius.max() < 10

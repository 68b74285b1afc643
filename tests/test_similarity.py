"""Planes and cones of embeddings: signed distances by hand, 1-Lipschitz, rounded towards 0, never broken by an attack."""

from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.nn import MaxMin, UnitSphere, lipschitz, orthogonal
from sdplip.robustness.arithmetic import network_in
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.descent import minimise
from sdplip.robustness.embedding import anchor_head, embed
from sdplip.robustness.similarity import anchored_radius, angle_radius, half_space_radius
from tests.trained import digits, trained

torch.set_num_threads(1)
METRICS = ("cosine", "euclid", "lipsim")
every_metric = pytest.mark.parametrize("metric", METRICS)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def nearness(f, a, metric):
    """Larger is nearer, as the metric defines it: no formula of the certificates."""
    if metric == "euclid":
        return -np.linalg.norm(f - a, axis=-1)
    if metric == "lipsim":
        f, a = (np.concatenate([v, np.ones((*v.shape[:-1], 1))], -1) for v in (f, a))
    return (f * a).sum(-1) / np.linalg.norm(f, axis=-1) / np.linalg.norm(a, axis=-1)


def test_by_hand():
    f, a, b = np.array([[3.0, 1.0]]), np.array([[2.0, 0.0]]), np.array([[0.0, 1.0]])
    assert half_space_radius(f, a, b, 1.0) == pytest.approx([2 / 2**0.5]), "the line y = x"
    assert half_space_radius(f, b, a, 2.0) == pytest.approx([-1 / 2**0.5])
    assert half_space_radius(f, a, b, 1.0, metric="euclid") == pytest.approx([(9 - 2) / 2 / 5**0.5])
    assert half_space_radius(f, a, a, 1.0) == [0] == half_space_radius(f, a, 3 * a, 1.0)
    assert half_space_radius(f, a, b, 1.0, error=0.4) == pytest.approx([2 / 2**0.5 - 0.4])
    assert half_space_radius(f, a, b, 1.0, error=9.0) == [0]


def test_lipsim_by_hand():
    """h(0) = (0, 1) and h(1) = (1, 1) / sqrt 2: <(f, 1), h(1) - h(0)> = (f + 1) / sqrt 2 - 1 vanishes at f = sqrt 2 - 1."""
    f, a, b = np.array([[1.0], [0.0]]), np.ones((2, 1)), np.zeros((2, 1))
    assert half_space_radius(f, a, b, 1.0, metric="lipsim") == pytest.approx([2 - 2**0.5, 1 - 2**0.5])


@every_metric
def test_the_answer_changes_exactly_at_the_radius(metric):
    """Towards the other side: just before it is the same, just behind it is not."""
    f, a, b = draw(200, 5), draw(200, 5, seed=1), draw(200, 5, seed=2)
    r = half_space_radius(f, a, b, 1.0, metric=metric)
    assert (np.sign(r) == np.sign(nearness(f, a, metric) - nearness(f, b, metric))).all()
    step = 1e-6 * np.eye(5)
    slope = np.stack([half_space_radius(f + e, a, b, 1.0, metric=metric) - r for e in step], 1) / 1e-6
    assert np.linalg.norm(slope, axis=1) == pytest.approx(1, abs=1e-5), "exactly 1-Lipschitz"
    for share, same in ((0.9999, True), (1.0001, False)):
        g = f - share * r[:, None] * slope / np.linalg.norm(slope, axis=1, keepdims=True)
        kept = np.sign(nearness(g, a, metric) - nearness(g, b, metric)) == np.sign(r)
        assert kept.all() if same else not kept.any()


@pytest.mark.parametrize("cosine", [-0.7, 0.0, 0.5, 0.95])
def test_angles_by_the_formula_and_at_the_radius(cosine):
    f, g = draw(400, 4), draw(400, 4, seed=1)
    r = angle_radius(f, g, cosine, 1.0)
    angle, t = np.arccos(nearness(f, g, "cosine")), np.arccos(cosine)
    expected = np.linalg.norm(f, axis=1) * np.sin(np.minimum(abs(t - angle), np.pi / 2)) * np.sign(t - angle)
    assert r == pytest.approx(expected, abs=1e-12)
    moved = draw(400, 4, seed=2) * 0.3
    change = abs(angle_radius(f + moved, g, cosine, 1.0) - r) / np.linalg.norm(moved, axis=1)
    assert change.max() <= 1 + 1e-9
    nearer = f + 0.9999 * abs(r[:, None]) * moved / np.linalg.norm(moved, axis=1, keepdims=True)
    assert ((nearness(nearer, g, "cosine") > cosine) == (r > 0)).all()
    step = 1e-6 * np.eye(4)
    slope = np.stack([angle_radius(f + e, g, cosine, 1.0) - r for e in step], 1) / 1e-6
    behind = f - 1.001 * r[:, None] * slope
    near = abs(t - angle) < np.pi / 2 - 0.01
    assert ((nearness(behind, g, "cosine") > cosine) != (r > 0))[near].all() and near.sum() > 200


@every_metric
def test_rounded_towards_0(metric):
    """Against fifty digits, with anchors that nearly agree and embeddings of very different length."""
    getcontext().prec = 50
    f, a = draw(60, 6) * 10.0 ** np.arange(-3, 3), draw(60, 6, seed=1)
    b = a + draw(60, 6, seed=2) * 10.0 ** -(np.arange(60)[:, None] % 15)
    found = half_space_radius(f, a, b, 1.0, metric=metric)
    for i in range(60):
        x, u, v = ([Decimal(float(n)) for n in row] for row in (f[i], a[i], b[i]))
        if metric != "cosine":
            x = [*x, Decimal(1)]
        if metric == "euclid":
            u, v = [*u, -sum(n * n for n in u) / 2], [*v, -sum(n * n for n in v) / 2]
        else:
            u, v = ([*w, Decimal(1)] if metric == "lipsim" else w for w in (u, v))
            u, v = ([n / sum(n * n for n in w).sqrt() for n in w] for w in (u, v))
        w = [p - q for p, q in zip(u, v, strict=True)]
        exact = sum(p * q for p, q in zip(x, w, strict=True)) / sum(n * n for n in w[:6]).sqrt()
        assert abs(Decimal(float(found[i]))) <= abs(exact) and (
            found[i] == 0 or (found[i] > 0) == (exact > 0)
        )
    assert (found != 0).mean() > 0.6


@every_metric
def test_retrieval_is_the_best_of_the_worst(metric):
    """Against every pair of anchors by `half_space_radius`; fewer witnesses prove less, never more."""
    f, g, y = draw(30, 3), draw(12, 3, seed=1), np.arange(12) % 3
    found = anchored_radius(f, g, y, 1.0, metric=metric, witnesses=12)
    for i in range(30):
        near = nearness(f[i], g, metric)
        assert found.nearest[i] == near.argmax() and found.label[i] == y[near.argmax()]
        right, wrong = g[y == found.label[i]], g[y != found.label[i]]
        pairs = [
            [half_space_radius(f[i : i + 1], a[None], b[None], 1.0, metric=metric)[0] for b in wrong]
            for a in right
        ]
        assert found.radius[i] == pytest.approx(max(0, np.min(pairs, 1).max()), abs=1e-12)
    fewer = anchored_radius(f, g, y, 1.0, metric=metric, witnesses=1)
    assert (fewer.radius <= found.radius).all() and (fewer.radius > 0).all()


@every_metric
def test_retrieval_under_attack(metric):
    """Trained digits, logits as embeddings: the label of the nearest anchor never changes below the radius, and soon behind it."""
    images, labels = (part[:160] for part in digits()[1])
    model = trained("sll")
    e, anchors = embed(model, images[:60]), embed(model, images[60:]).values
    found = anchored_radius(e.values, anchors, labels[60:], e.constant, metric=metric, error=e.error)
    network, x = network_in(model, "float64"), images[:60].double() / 255
    wrong = torch.from_numpy(found.label)[:, None] != labels[60:][None]
    G = torch.from_numpy(anchors)

    def margin(z):
        f = network(z)
        if metric == "euclid":
            near = -torch.cdist(f, G)
        else:
            pad = (
                (lambda v: v)
                if metric == "cosine"
                else (lambda v: torch.cat([v, torch.ones_like(v[:, :1])], 1))
            )
            near = nn.functional.normalize(pad(f)) @ nn.functional.normalize(pad(G)).T
        return near.masked_fill(wrong, -torch.inf).amax(1) - near.masked_fill(~wrong, -torch.inf).amax(1)

    r = torch.from_numpy(found.radius)
    assert (r > 0).float().mean() > 0.9 and e.rounding == "proven"
    assert (minimise(margin, x, r * 0.999, steps=15, restarts=1, box=(0, 1)).margin > 0).all()
    assert (minimise(margin, x, 4 * r, steps=15, restarts=1).margin <= 0).float().mean() > 0.5


def test_verification_under_attack():
    images, _ = digits()[1]
    model = trained("orthogonal")
    e, other = embed(model, images[:50]), embed(model, images[50:100]).values
    r = angle_radius(e.values, other, 0.5, e.constant, error=e.error)
    network, x, G = network_in(model, "float64"), images[:50].double() / 255, torch.from_numpy(other)
    side = torch.from_numpy(np.sign(r))
    hit = minimise(
        lambda z: side * (nn.functional.cosine_similarity(network(z), G) - 0.5), x, torch.from_numpy(abs(r)) * 0.999, steps=15
    )  # fmt: skip
    assert (hit.margin[side != 0] > 0).all() and (r > 0).any() and (r < 0).any()


@pytest.mark.parametrize("scope", ["exact", "computed"])
def test_embeddings_carry_their_rounding(scope):
    images, _ = digits()[1]
    single = embed(trained("sll"), images[:20], precision="float32", scope=scope)
    exact = network_in(trained("sll"), "float32").double()
    with torch.no_grad():
        apart = np.linalg.norm(single.values - exact((images[:20] / 255).double()).numpy(), axis=1)
    assert (apart <= single.error).all() and (apart > 0).any() and single.error.max() < 0.1
    assert (single.constant > single.bound.value) == (scope == "computed")


def test_refusals():
    f = draw(3, 2)
    with pytest.raises(InvalidProblem, match="one shape"):
        half_space_radius(f, f[:2], f, 1.0)
    with pytest.raises(InvalidProblem, match="no direction"):
        half_space_radius(f, 0 * f, f, 1.0)
    with pytest.raises(InvalidProblem, match="finite"):
        half_space_radius(f * np.nan, f, f, 1.0)
    with pytest.raises(InvalidProblem, match="`metric`"):
        half_space_radius(f, f, f, 1.0, metric="dot")  # type: ignore[arg-type]
    for constant, error in ((0.0, 0.0), (np.inf, 0.0), (1.0, -1.0), (1.0, np.nan)):
        with pytest.raises(InvalidProblem, match="`constant`"):
            half_space_radius(f, f, f, constant, error=error)
    with pytest.raises(InvalidProblem, match="one label"):
        anchored_radius(f, f, np.zeros(3, int), 1.0)
    with pytest.raises(InvalidProblem, match="fit together"):
        anchored_radius(f, f, np.zeros(2, int), 1.0)
    with pytest.raises(InvalidProblem, match="between -1 and 1"):
        angle_radius(f, f, 1.0, 1.0)
    with pytest.raises(InvalidProblem, match="embeddings"):
        embed(nn.Conv2d(1, 1, 1), torch.rand(2, 1, 3, 3))


# The layer


@pytest.mark.parametrize("height", [1.0, 0.25])
def test_the_sphere_has_one_over_its_height(height):
    """Attained at 0, exceeded nowhere; every output has length 1."""
    layer = UnitSphere(height).double()
    bound = lipschitz(layer).value
    x = torch.from_numpy(draw(300, 4) * 10.0 ** np.random.default_rng(1).uniform(-3, 2, (300, 1)))
    norms = torch.linalg.matrix_norm(torch.func.vmap(torch.func.jacrev(lambda v: layer(v[None])[0]))(x), 2)
    assert norms.max() <= bound and bound == pytest.approx(1 / height)
    at_0 = torch.func.jacrev(lambda v: layer(v[None])[0])(torch.zeros(4).double())
    assert torch.linalg.matrix_norm(at_0, 2) == pytest.approx(bound)
    assert layer(x).norm(dim=1) == pytest.approx(1) and layer(x).shape == (300, 5)
    image = torch.rand(2, 3, 4, 5)
    assert torch.allclose(layer(image.double()).norm(dim=1), torch.ones(2, 4, 5).double())


def test_lipsims_network_is_proven_and_its_radius_smaller():
    """The published certificate on h(x) = (f, 1) / |(f, 1)| against the half-space of the same metric."""
    torch.manual_seed(0)
    f = nn.Sequential(orthogonal(nn.Linear(6, 6)), MaxMin(), orthogonal(nn.Linear(6, 6))).double().eval()
    h = nn.Sequential(f, UnitSphere())
    e, a, b = (torch.from_numpy(draw(50, 6, seed=s)) for s in range(3))
    L = lipschitz(h).value
    assert L <= 1 + 1e-6, "orthogonal weights of single precision"
    with torch.no_grad():
        u = h(a) - h(b)
        published = ((h(e) * u).sum(1) / u.norm(dim=1) / L).numpy()
        ours = half_space_radius(f(e), f(a), f(b), lipschitz(f), metric="lipsim")
        factor = (1 + f(e).square().sum(1)).sqrt().numpy()
    assert (abs(ours) >= abs(published) * factor * (1 - 1e-9)).all() and (
        np.sign(ours) == np.sign(published)
    ).all()


def test_the_sphere_without_height_is_refused():
    with pytest.raises(RefusedModule, match="positive `height`"):
        lipschitz(nn.Sequential(nn.Linear(3, 3), UnitSphere(0.0)))
    with pytest.raises(RefusedModule, match="angle_radius"):
        lipschitz(nn.CosineSimilarity())
    with pytest.raises(ValueError, match="`height`"):
        UnitSphere(-1.0)
    assert UnitSphere(0.0)(torch.zeros(1, 3)).tolist() == [[0, 0, 0]]
    assert UnitSphere(0.1).height == pytest.approx(0.1, rel=2**-8)


@every_metric
def test_anchors_as_a_last_layer(metric):
    """The class of the head is the nearest anchor, and its certified radius the half-space radius of that."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), MaxMin(), nn.Linear(8, 4)).double().eval()
    x, anchors = torch.rand(30, 6, dtype=torch.float64), draw(5, 4)
    whole = nn.Sequential(*model, anchor_head(anchors, metric=metric))
    e = embed(model, x)
    nearest = [max(range(5), key=lambda k: nearness(f, anchors[k], metric)) for f in np.asarray(e.values)]
    found = certify_accuracy(whole, x, torch.tensor(nearest))
    assert found.clean == 1
    one_by_one = anchored_radius(
        e.values, anchors, np.arange(5), e.constant, metric=metric, error=e.error, witnesses=1
    )
    np.testing.assert_allclose(found.radius, one_by_one.radius, rtol=1e-6, atol=1e-9)


def test_anchor_head_refuses():
    with pytest.raises(InvalidProblem, match="no direction"):
        anchor_head(np.zeros((2, 3)))
    with pytest.raises(InvalidProblem, match="shape"):
        anchor_head(np.zeros(3))

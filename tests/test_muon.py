"""Weights that are orthogonal themselves: laws of the arithmetic, the optimiser against its formula, runs that stop and go on."""

import copy

import pytest
import torch
from torch import nn

from sdplip.errors import InvalidConfig, InvalidWeight, UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.nn import (
    LastLayerNormalised,
    LipNeXtBlock,
    MaxMin,
    ResidualConv2d,
    ResidualLinear,
    lipschitz,
    orthogonal,
    rescaled,
)
from sdplip.nn.manifold import (
    as_matrices,
    deviation,
    manifold_weights,
    newton_schulz,
    on_manifold,
    polar,
    retracted,
)
from sdplip.nn.scaled import scaled_weights
from sdplip.training import load_run, override, train
from sdplip.training.margins import aimed
from sdplip.training.optimisers import Muon, muon_groups
from sdplip.training.schedules import build_optimiser
from sdplip.training.tables import OptimiserConfig
from tests.training_runs import few, same_weights, small

torch.set_num_threads(1)
SHAPES = [(6, 6), (9, 4), (4, 9), (2, 5, 3)]
MUON = ("model.family=manifold", "optimiser.name=muon", "optimiser.lr=0.2", "optimiser.schedule=linear")


def seeded(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(3))


def network(dtype=torch.float32):
    torch.manual_seed(1)
    layers = [orthogonal(nn.Linear(n, m), "manifold") for n, m in ((8, 12), (12, 12), (12, 6))]
    return nn.Sequential(layers[0], MaxMin(), layers[1], MaxMin(), layers[2], LastLayerNormalised(6, 3)).to(
        dtype
    )


def descend(model, optimiser, steps, *, seed=5):
    g = torch.Generator().manual_seed(seed)
    like = next(model.parameters())
    losses = []
    for _ in range(steps):
        x, y = torch.randn(32, 8, generator=g).to(like), torch.randint(3, (32,), generator=g)
        y[:] = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(4 * model(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("shape", SHAPES)
def test_directions_point_where_the_singular_vectors_do(shape):
    """Many steps of Newton and Schulz hover around U V'; they turn with the axes, do not see the length, and keep zero."""
    G = seeded(*shape)
    U, _, V = torch.linalg.svd(G, full_matrices=False)
    direction = newton_schulz(G, 12)
    found = (U.mT @ direction @ V.mT).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(U @ torch.diag_embed(found) @ V, direction)
    assert found.min() > 0.6 and found.max() < 1.21
    torch.testing.assert_close(newton_schulz(1e-9 * G, 3), newton_schulz(G, 3))
    torch.testing.assert_close(newton_schulz(G.mT, 3), newton_schulz(G, 3).mT)
    assert not newton_schulz(0 * G).any()


def test_three_steps_stay_below_what_the_largest_learning_rate_rests_on():
    singular = torch.linspace(0, 1, 4001, dtype=torch.float64)
    for _ in range(8):
        singular = 3.4445 * singular - 4.7750 * singular**3 + 2.0315 * singular**5
        assert singular.max() < 1.21
    assert 1 + 1.21 * 0.6 < 3**0.5


def test_the_direction_is_torchs():
    """torch.optim.Muon runs the same five steps in bfloat16."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    weight = nn.Parameter(torch.zeros(24, 16))
    weight.grad = seeded(24, 16, dtype=torch.float32)
    torch.optim.Muon([weight], lr=1.0, weight_decay=0, momentum=0, nesterov=False).step()
    ours = newton_schulz(weight.grad, 5) * 1.5**0.5  # its factor for tall matrices
    assert (-weight.detach() - ours).norm() < 0.1 * ours.norm()  # bfloat16 has three digits


@pytest.mark.parametrize("shape", SHAPES)
def test_polar(shape):
    """The nearest orthogonal matrix: by singular values from afar, by iteration from near by; both exact in double."""
    W = seeded(*shape)
    U, _, V = torch.linalg.svd(W, full_matrices=False)
    torch.testing.assert_close(polar(W), U @ V, atol=1e-13, rtol=0)
    near = polar(W) + 1e-2 * seeded(*shape)
    U, _, V = torch.linalg.svd(near, full_matrices=False)
    torch.testing.assert_close(polar(near), U @ V, atol=1e-13, rtol=0)
    assert deviation(polar(near)).max() < 1e-14 * min(shape[-2:]) ** 0.5 * 4
    assert polar(near.float()).dtype == torch.float32
    spoilt = near.clone()
    spoilt[..., 0, 0] = torch.nan
    assert polar(spoilt) is spoilt


def test_retraction_by_hand():
    """sigma (3 - sigma^2) / 2 at 1.1, 1, 0.5."""
    W = torch.diag(torch.tensor([1.1, 1.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(
        retracted(W).diagonal(), torch.tensor([0.9845, 1.0, 0.6875], dtype=torch.float64)
    )


def test_a_step_by_hand():
    """Two steps of one weight: momentum, direction, retraction, as the formula says."""
    start = polar(seeded(5, 3))
    weight = nn.Parameter(start.clone())
    optimiser = Muon([weight], lr=0.3, momentum=0.5, steps=4)
    g = [seeded(5, 3), seeded(5, 3).flip(0)]
    expected, m = start, torch.zeros(5, 3, dtype=torch.float64)
    for gradient in g:
        weight.grad = gradient.clone()
        optimiser.step()
        m = 0.5 * m + gradient
        expected = retracted(expected - 0.3 * newton_schulz(gradient + 0.5 * m, 4))
    torch.testing.assert_close(weight.detach(), expected)


def test_a_step_of_a_scaled_weight_by_hand():
    """W = diag(3, 4) has the length 5 and singular values of mean square 12.5. A gradient along it, and one across it: W turns, its length stays."""
    layer = rescaled(nn.Linear(2, 2, bias=False).double(), "aol")
    weight = next(iter(scaled_weights(layer)))
    for gradient, direction in (([[1, 0], [0, 1]], [[1, 0], [0, 1]]), ([[0, 1], [-1, 0]], [[0, 1], [-1, 0]])):
        with torch.no_grad():
            weight.copy_(torch.tensor([[3.0, 0], [0, 4]]))
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimiser = Muon(muon_groups(layer), 0.2, steps=1)
        size = float(
            newton_schulz(weight.grad, 1).diagonal().abs().max() or newton_schulz(weight.grad, 1)[0, 1]
        )
        optimiser.step()
        V = torch.tensor([[3.0, 0], [0, 4]], dtype=torch.float64)
        V -= 0.2 * 12.5**0.5 * size * torch.tensor(direction, dtype=torch.float64)
        torch.testing.assert_close(weight.detach(), 5 * V / V.norm())
    with torch.no_grad():
        weight.zero_()
    optimiser.step()
    assert not weight.any()


def test_wide_matrices_take_the_same_steps():
    """Through the small Gram matrix or not."""
    G = seeded(2, 5, 21)
    X = G / torch.linalg.matrix_norm(G, keepdim=True)
    for _ in range(4):
        A = X @ X.mT
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
    torch.testing.assert_close(newton_schulz(G, 4), X)
    torch.testing.assert_close(newton_schulz(G.mT, 4), X.mT)
    half = newton_schulz(G.float(), 4, half=True)
    assert (half - X).norm() < 0.05 * X.norm()  # bfloat16 has three digits


def test_groups_of_a_network_with_every_kind():
    """Orthogonal, residual, grouped residual and rescaled layers, and what is left for Adam."""
    grouped = ResidualConv2d(4, 6, 3, "spectral", geometry=Geometry(groups=2))
    layers = nn.ModuleList(
        [
            orthogonal(nn.Linear(4, 4), "manifold"),
            ResidualLinear(4, 6, "sll"),
            grouped,
            rescaled(nn.Linear(4, 4), "aol"),
            nn.Linear(4, 2),
        ]
    )
    groups = muon_groups(layers)
    sizes = [
        (group["manifold"], group.get("scaled"), group.get("blocks"), len(group["params"]))
        for group in groups
    ]
    assert sizes == [
        (True, False, 1, 1),
        (False, True, 1, 2),
        (False, True, 2, 1),
        (False, None, None, 1),
        (False, None, None, 6),
    ]
    assert scaled_weights(layers)[grouped.weight] == 2


def test_the_rest_is_torchs_adam():
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    options = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-7}
    group = {"params": list(ours.parameters()), "manifold": False, "weight_decay": 0.1, **options}
    optimisers = Muon([group]), torch.optim.Adam(theirs.parameters(), weight_decay=0.1, **options)
    for _ in range(3):
        for layer, optimiser in zip((ours, theirs), optimisers, strict=True):
            optimiser.zero_grad()
            layer(torch.ones(4, 3)).square().sum().backward()
            optimiser.step()
    assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("half", [False, True])
def test_training_lowers_the_loss_and_stays_orthogonal(dtype, half):
    model = network(dtype)
    optimiser = Muon(muon_groups(model), 0.1, half=half)
    losses = descend(model, optimiser, 60)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    optimiser.project()
    for weight in manifold_weights(model):
        assert weight.dtype == dtype
        assert deviation(weight.detach().double()) < 40 * torch.finfo(dtype).eps
    assert float(lipschitz(model[:5].eval())) < 1 + max(20 * torch.finfo(dtype).eps, 1e-12)


def test_the_bound_is_measured_however_poor_the_weight():
    layer = orthogonal(nn.Linear(9, 5), "manifold")
    assert on_manifold(layer) and aimed(layer) == 1
    assert 1 <= float(lipschitz(layer)) < 1 + 1e-6
    with torch.no_grad():
        layer.weight += 0.3 * seeded(5, 9).float()
    norm = float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2))
    assert norm > 1.05 and norm <= float(lipschitz(layer)) < 1.0001 * norm
    again = copy.deepcopy(layer)
    assert on_manifold(again) and list(manifold_weights(again)) == [again.weight]


def test_kernels_are_matrices_block_by_block():
    """Groups, patches and transposed convolutions: every block has orthonormal rows or columns, and stays so."""
    layers = nn.ModuleList(
        [
            orthogonal(nn.Conv2d(4, 6, 2, 2, groups=2), "manifold"),
            orthogonal(nn.Conv1d(3, 5, 1), "manifold"),
            orthogonal(nn.ConvTranspose2d(6, 3, 1, groups=3), "manifold"),
            LipNeXtBlock(4, (3, 3), 1, method="manifold"),
        ]
    )
    blocks = manifold_weights(layers)
    assert list(blocks.values()) == [2, 1, 3, 1, 1]
    optimiser = Muon(muon_groups(layers), 0.1)
    before = [weight.detach().clone() for weight in blocks]
    (layers[0](torch.ones(1, 4, 4, 4)).sum() + layers[1](torch.ones(1, 3, 4)).sum()).backward()
    (layers[2](torch.ones(1, 6, 2, 2)).sum() + layers[3](seeded(1, 4, 3, 3).float()).sum()).backward()
    optimiser.step()
    optimiser.project()
    for (weight, n), old in zip(blocks.items(), before, strict=True):
        assert not torch.equal(weight, old)
        assert deviation(as_matrices(weight.detach(), n)).max() < 1e-5


def test_state_goes_on_where_it_was():
    """state_dict into a new optimiser, half of the way: the same bits."""
    whole, parts = network(), network()
    first = Muon(muon_groups(whole), 0.2)
    descend(whole, first, 3)
    descend(whole, first, 3, seed=6)
    second = Muon(muon_groups(parts), 0.2)
    descend(parts, second, 3)
    third = Muon(muon_groups(parts), 0.1)
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    descend(parts, third, 3, seed=6)
    assert same_weights(whole.state_dict(), parts.state_dict())


def test_closures_schedulers_and_parameters_without_gradient():
    model = network()
    optimiser = Muon(muon_groups(model), 0.2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5**step)
    model[2].weight.requires_grad_(requires_grad=False)

    def closure():
        optimiser.zero_grad()
        loss = model(torch.ones(4, 8)).square().sum()
        loss.backward()
        return loss

    kept = model[2].weight.detach().clone()
    assert optimiser.step(closure).item() > 0
    scheduler.step()
    assert torch.equal(model[2].weight, kept)
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.1, 0.005, 0.005])


def test_checkpoints_from_before_scaled_weights():
    """Their groups do not say `scaled`."""
    model = network()
    optimiser = Muon(muon_groups(model), 0.2)
    document = copy.deepcopy(optimiser.state_dict())
    for group in document["param_groups"]:
        del group["scaled"]
    optimiser.load_state_dict(document)
    descend(model, optimiser, 1)


def test_what_is_refused():
    with pytest.raises(InvalidWeight, match="is not orthogonal"):
        Muon([nn.Parameter(torch.ones(3, 3))])
    with pytest.raises(InvalidWeight, match="group with"):
        Muon([nn.Parameter(torch.ones(3))])
    for options in ({"lr": 0.61}, {"lr": -1.0}, {"momentum": 1.0}, {"steps": 0}, {"betas": (0.9, 1.0)}):
        with pytest.raises(InvalidConfig, match="must"):
            Muon([nn.Parameter(torch.eye(3))], **options)
    optimiser = Muon([nn.Parameter(torch.eye(3))])
    optimiser.param_groups[0]["lr"] = 2.0
    with pytest.raises(InvalidConfig, match="way back"):
        optimiser.step()
    for layer in (
        nn.Conv2d(2, 2, 3),
        nn.Conv2d(2, 2, 1, padding=1, padding_mode="circular"),
        nn.Conv2d(2, 2, 2, 2, dilation=2),
    ):
        with pytest.raises(UnsupportedConvolution, match="method 'aoc'"):
            orthogonal(layer, "manifold")
    with pytest.raises(UnsupportedConvolution, match="parametrized"):
        orthogonal(orthogonal(nn.Linear(2, 2)), "manifold")
    bad = nn.Linear(2, 2)
    nn.init.constant_(bad.weight, torch.nan)
    with pytest.raises(InvalidWeight, match="finite"):
        orthogonal(bad, "manifold")
    with pytest.raises(InvalidConfig, match="has none"):
        build_optimiser(OptimiserConfig(name="muon", lr=0.1), nn.Linear(2, 2))
    with pytest.raises(InvalidConfig, match=r"at most 0\.6"):
        OptimiserConfig(name="muon", lr=1.0)
    with pytest.raises(InvalidConfig, match="is for the optimiser muon"):
        OptimiserConfig(lr_rest=0.1)


@pytest.fixture(scope="module")
def data():
    return few()


@pytest.mark.parametrize(("family", "stops"), [("manifold", (3, 4, 6)), ("cpl", (3,))])
def test_runs_resume_bit_for_bit(family, stops, data, tmp_path):
    """Stopped within an epoch and at its end, after the step to exact orthogonality."""
    config = override(small(*MUON), [f"model.family={family}", "train.checkpoint_steps=1"])
    summary = train(config, tmp_path / "whole", data=data)
    for after in stops:
        left = iter([False] * after + [True])
        train(config, tmp_path / f"{after}", data=data, stop=lambda left=left: next(left, False))
        train(config, tmp_path / f"{after}", data=data)
        name = "model.safetensors"
        assert (tmp_path / f"{after}" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    model = load_run(tmp_path / "whole")[1]
    assert summary.proven_certified is not None and summary.bound is not None
    assert all(deviation(w.detach().double()) < 1e-5 for w in manifold_weights(model))
    assert float(lipschitz(model[:-1], input_shape=(1, 8, 8))) < 1 + 1e-5


def test_bfloat16_leaves_the_weights_in_single_precision(data, tmp_path):
    summary = train(small(*MUON, "train.precision=bfloat16", "train.steps=4"), tmp_path / "run", data=data)
    weights = list(manifold_weights(load_run(tmp_path / "run")[1]))
    assert summary.bound is not None and len(weights) == 1
    assert all(w.dtype == torch.float32 and deviation(w.detach()) < 1e-5 for w in weights)

"""Residual layers with several inner layers: the inequality itself, every slope pattern, what is refused."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidScaling, InvalidWeight, RefusedModule
from sdplip.nn import DeepResidualLinear, UnsupportedActivation, export_plain, lipschitz
from sdplip.nn.bounds.deep import SLACKS

torch.set_num_threads(1)

SHAPES = [(1, [1]), (2, [2, 2]), (8, [8]), (3, [5, 2, 4]), (4, [3, 9])]


def layer(features, hidden, seed=0, scale=1.0, **options):
    torch.manual_seed(seed)
    made = DeepResidualLinear(features, hidden, **options).double()
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn_like(p) * (scale if p.ndim > 1 else 1.0))
    return made.eval()


def inequality(made):
    """The matrix of Note [deep residual], built from the weights that run (slopes in [0, 1])."""
    *inner, B = (W.detach().numpy() for W in made.weights())
    lams = [log.detach().exp().numpy() for log in made.log_lambda]
    sizes = [made.features, *made.hidden]
    at = np.cumsum([0, *sizes])
    M = np.zeros((at[-1], at[-1]))
    parts = [slice(a, b) for a, b in itertools.pairwise(at)]
    M[parts[0], parts[0]] = (made.L**2 - made.h**2) * np.eye(made.features)
    for k, (C, lam) in enumerate(zip(inner, lams, strict=True), 1):
        M[parts[k], parts[k]] += np.diag(2 * lam)
        M[parts[k], parts[k - 1]] -= lam[:, None] * C
        M[parts[k - 1], parts[k]] -= (lam[:, None] * C).T
    M[parts[-1], parts[-1]] -= B.T @ B
    M[parts[-1], parts[0]] -= made.h * B.T
    M[parts[0], parts[-1]] -= made.h * B
    return M


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("h", "L"), [(0.0, 1.0), (0.5, 1.0), (-0.9, 1.0), (1.2, 3.0)])
def test_the_inequality_holds(shape, h, L):
    for seed, scale in enumerate((0.3, 1.0, 5.0)):
        M = inequality(layer(*shape, seed, scale, h=h, L=L))
        assert np.linalg.eigvalsh(M).min() >= -1e-12 * np.linalg.norm(M, 2)


def test_no_slope_pattern_exceeds_the_constant():
    """180 layers; every pattern of ReLUs that are on or off."""
    largest = 0.0
    for seed, shape in itertools.product(range(36), SHAPES):
        made = layer(*shape, seed, (0.3, 1.0, 3.0)[seed % 3], h=(0.5, -0.2, 0.8)[seed % 3])
        *inner, B = (W.detach().numpy() for W in made.weights())
        rng = np.random.default_rng(seed)
        for trial in range(12):
            J = np.eye(made.features)
            for C in inner:
                J = rng.integers(0, 2, len(C))[:, None] ** (trial > 0) * (C @ J)
            largest = max(largest, np.linalg.norm(made.h * np.eye(made.features) + B @ J, 2))
    assert 0.9 < largest <= 1 + 1e-12


def test_one_unit_by_hand():
    """n = m = 1, h = 0, all free weights at the Cayley transform of 0 but the first: y = B max(C x, 0) with |B C| <= 1."""
    made = DeepResidualLinear(1, [1], h=0.0).double()
    with torch.no_grad():
        made.free[0].copy_(torch.tensor([[0.0], [1 - math.sqrt(2)]]))  # N = 0.99 / sqrt 2
        made.free[1].copy_(torch.tensor([[0.0], [0.0]]))  # M = (1, 0)
    C, B = (float(W.detach()) for W in made.weights())
    n = 0.99 / math.sqrt(2)
    assert pytest.approx(math.sqrt(2) * n) == C and pytest.approx(math.sqrt(2 * (1 - n * n))) == B


def test_slopes_of_other_activations():
    for activation in (nn.Sigmoid(), nn.LeakyReLU(0.3), nn.Softplus(), nn.ELU(1.5)):
        made = layer(3, [4, 3], 1, activation=activation)
        assert lipschitz(made).value <= 1 + 10 * SLACKS[0]


def test_what_is_refused():
    with pytest.raises(InvalidScaling, match="abs"):
        DeepResidualLinear(3, [4], h=1.0)
    for shape in ((0, [3]), (3, []), (3, [0])):
        with pytest.raises(InvalidWeight, match=r"hidden layer|whole number"):
            DeepResidualLinear(*shape)
    with pytest.raises(UnsupportedActivation):
        DeepResidualLinear(3, [4], nn.GELU())
    plain = export_plain(layer(3, [4])).model
    plain.multipliers[0] = -1
    with pytest.raises(RefusedModule, match="positive numbers"):
        lipschitz(plain)
    plain = export_plain(layer(3, [4])).model
    plain.branch[2] = nn.Linear(4, 5, bias=False).double()
    with pytest.raises(RefusedModule, match="number of features"):
        lipschitz(plain)


def test_a_spoiled_weight_raises_the_bound():
    plain = export_plain(layer(4, [6, 5])).model
    assert lipschitz(plain).value <= 1 + 1e-9
    with torch.no_grad():
        plain.branch[4].weight *= 1.5
    x = torch.randn(200, 4, dtype=torch.float64)
    J = torch.func.vmap(torch.func.jacrev(plain))(x)
    assert torch.linalg.matrix_norm(J, 2).max() <= lipschitz(plain).value < 2.5

"""Laws of the closed-form scalings, over every scaling and both array libraries; one number of each by hand."""

from functools import partial

import numpy as np
import pytest
import torch

from sdplip import scalings
from sdplip.condition import gram, inverse_scaling, rescale, residual
from sdplip.proposals import certify

FEASIBLE = {
    "spectral": scalings.spectral,
    "aol": scalings.aol,
    "sll": lambda W: scalings.gershgorin(W, W[..., 0, :] ** 2 + 0.1),
    "perron": scalings.perron,
    "multi_step_1": partial(scalings.multi_step, p=1),
    "multi_step_2": scalings.multi_step,
    "multi_step_5": partial(scalings.multi_step, p=5),
    "multi_step_q": lambda W: scalings.multi_step(W, 3, W[..., 0, :] ** 2 + 0.1),
}
MATRICES = {
    "square": np.random.default_rng(0).normal(size=(12, 12)),
    "tall": np.random.default_rng(1).normal(size=(20, 5)),
    "wide": np.random.default_rng(2).normal(size=(5, 20)),
    "rank_one": np.outer(np.arange(1.0, 6), [1.0, -2, 3]),
    "orthogonal": np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))[0],
    "one": np.array([[2.0]]),
    "nonnegative": np.random.default_rng(4).uniform(size=(7, 6)),
}

all_scalings = pytest.mark.parametrize("scaling", FEASIBLE.values(), ids=FEASIBLE)
all_matrices = pytest.mark.parametrize("W", MATRICES.values(), ids=MATRICES)


@all_scalings
@all_matrices
def test_feasible(scaling, W):
    """W^T W <= diag(t) is proven, up to the rounding of t itself."""
    assert certify(W, scaling(W)).c <= 1 + 1e-12


@all_scalings
def test_scale_equivariant(scaling):
    W = MATRICES["square"]
    if scaling not in (FEASIBLE["sll"], FEASIBLE["multi_step_q"]):  # their test q is not scale-free
        np.testing.assert_allclose(scaling(8 * W), 64 * scaling(W), rtol=1e-10)


@all_scalings
def test_permutation_equivariant(scaling):
    W = MATRICES["tall"]
    order = np.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(scaling(W[:, order]), scaling(W)[order], rtol=1e-9)


@all_scalings
@all_matrices
def test_torch_agrees(scaling, W):
    np.testing.assert_allclose(scaling(torch.from_numpy(W)).numpy(), scaling(W), rtol=1e-12)


@all_scalings
def test_batched(scaling):
    W = np.random.default_rng(0).normal(size=(2, 3, 6, 4))
    t = scaling(W)
    assert t.shape == (2, 3, 4)
    np.testing.assert_allclose(t[1, 2], scaling(W[1, 2]), rtol=1e-10)


@all_scalings
def test_gradients_match_differences_and_stay_finite_at_zero_columns(scaling):
    W = torch.from_numpy(MATRICES["tall"]).requires_grad_()
    assert torch.autograd.gradcheck(scaling, W)
    dead = torch.from_numpy(MATRICES["tall"]).clone()
    dead[:, 2] = 0
    dead.requires_grad_()
    rescale(dead, scaling(dead)).sum().backward()
    assert dead.grad is not None and torch.isfinite(dead.grad).all()


@all_scalings
def test_zero_columns_stay_zero(scaling):
    W = MATRICES["tall"].copy()
    W[:, 2] = 0
    P = rescale(W, scaling(W))
    assert np.isfinite(P).all() and not P[:, 2].any()
    assert np.linalg.norm(P, 2) <= 1 + 1e-12


def test_known_answers():
    r"""W = [[3, 0], [4, 5]]: G = [[25, 20], [20, 25]], eigenvalues 45 and 5."""
    W = np.array([[3.0, 0], [4, 5]])
    np.testing.assert_array_equal(gram(W), [[25, 20], [20, 25]])
    np.testing.assert_array_equal(scalings.identity(W), [1, 1])
    np.testing.assert_array_equal(scalings.aol(W), [45, 45])
    np.testing.assert_allclose(scalings.gershgorin(W, np.array([1.0, 2])), [25 + 40, 25 + 10])
    np.testing.assert_allclose(scalings.spectral(W), [45, 45], rtol=1e-12)
    np.testing.assert_allclose(scalings.multi_step(W, 2), [45, 45], rtol=1e-12)
    np.testing.assert_allclose(scalings.perron(W), [45, 45], rtol=1e-5)


def test_orthogonal_matrices_get_ones():
    Q = MATRICES["orthogonal"]
    for scaling in (scalings.aol, scalings.multi_step, partial(scalings.spectral, iterations=20)):
        np.testing.assert_allclose(scaling(Q), 1, rtol=1e-5)


def test_multi_step_walks_from_aol_to_spectral():
    W = MATRICES["square"]
    np.testing.assert_allclose(scalings.multi_step(W, 1), scalings.aol(W), rtol=1e-12)
    largest = [scalings.multi_step(W, p).max() for p in (1, 2, 4, 8)]
    assert largest == sorted(largest, reverse=True)
    square = np.linalg.norm(W, 2) ** 2
    np.testing.assert_allclose(scalings.multi_step(W, 400), square, rtol=0.03)


def test_spectral_is_above_the_norm_at_every_iteration():
    W = MATRICES["square"]
    square = np.linalg.norm(W, 2) ** 2
    values = [float(scalings.spectral(W, k)[0]) for k in range(9)]
    assert values == sorted(values, reverse=True)
    assert values[-1] >= square * (1 - 1e-14)
    assert values[-1] == pytest.approx(square, rel=2e-2)


def test_perron_reaches_the_spectral_radius():
    """The largest t of the Gershgorin family is at least the Perron root of |G|, and the Perron q attains it."""
    W = MATRICES["square"]
    root = np.linalg.eigvalsh(abs(gram(W)))[-1]
    assert scalings.perron(W).max() == pytest.approx(root, rel=1e-4)
    assert scalings.aol(W).max() >= root


def test_perron_of_a_block_diagonal_matrix_is_valid():
    W = np.zeros((4, 4))
    W[:2, :2], W[2:, 2:] = [[1, 2], [3, 4]], [[0.01, 0], [0.02, 0.01]]
    t = scalings.perron(W)
    assert np.isfinite(t).all() and certify(W, t).c <= 1 + 1e-12


def test_q_is_a_gauge_for_relu():
    """SLL(W, b, q) equals AOL-residual with W Q and Q b (reference section 2); for tanh the two differ."""
    rng = np.random.default_rng(0)
    W, x, b, q = rng.normal(size=(5, 7)), rng.normal(size=(11, 5)), rng.normal(size=7), rng.uniform(0.5, 2, 7)
    for activation, equal in ((lambda z: np.maximum(z, 0), True), (np.tanh, False)):
        ours = residual(x, W, scalings.gershgorin(W, q), b, activation=activation)
        gauge = residual(x, W * q, scalings.aol(W * q), b * q, activation=activation)
        assert np.allclose(ours, gauge, rtol=1e-12) is equal


def test_residual_layer_is_one_lipschitz():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(5, 7))
    t = scalings.aol(W)
    x, y = rng.normal(size=(2, 500, 5)) * 3
    change = residual(x, W, t, activation=np.tanh) - residual(y, W, t, activation=np.tanh)
    assert (np.linalg.norm(change, axis=1) <= np.linalg.norm(x - y, axis=1) * (1 + 1e-12)).all()


def test_inverse_scaling_maps_zero_to_zero():
    np.testing.assert_array_equal(inverse_scaling(np.array([4.0, 0, 1]), 0.5), [0.5, 0, 1])


def test_bad_step_count_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        scalings.multi_step(np.eye(2), 0)

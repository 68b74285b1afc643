"""Lower bounds from dual points: below the optimum for any dual point, and equal to it for the optimal one."""

from fractions import Fraction

import numpy as np
import pytest

from sdplip import scalings
from sdplip.convolution import aol as convolution_aol
from sdplip.errors import InvalidScaling
from sdplip.geometry import Geometry
from sdplip.kernel.condition import convolution_trace_lower_bound, log_det_lower_bound, trace_lower_bound
from sdplip.proposals import certify


def test_rank_one_is_known_exactly():
    r"""W = w^T: the optimum is t = |w| ||w||_1 with trace ||w||_1^2; the dual point is the vector of signs."""
    w = np.array([[3.0, -1.0, 2.0]])
    lower = trace_lower_bound(w, np.sign(w).T)
    assert lower <= 36 and lower == pytest.approx(36, rel=1e-13)
    assert trace_lower_bound(w, np.ones((3, 1))) == pytest.approx(16, rel=1e-13)


def test_any_dual_point_is_valid_after_shortening():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(8, 6))
    feasible = [f(W).sum() for f in (scalings.aol, scalings.spectral, scalings.multi_step)]
    for scale in (1e-3, 1.0, 1e3):
        assert trace_lower_bound(W, scale * rng.normal(size=(6, 9))) <= min(feasible)
    cost = rng.uniform(0.1, 10, 6)
    assert trace_lower_bound(W, rng.normal(size=(6, 3)), cost) <= cost @ scalings.aol(W)


def test_rounding_of_the_trace_bound_in_exact_arithmetic():
    """Orthogonal rows of signs, unit dual rows: <G, X> is an exact integer that the bound must not exceed."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        W = rng.integers(-9, 10, (4, 5)).astype(float)
        signs = rng.choice([-1.0, 1.0], (5, 1))
        exact = sum(Fraction(int(x)) ** 2 for x in (W @ signs).ravel().tolist())
        if exact:
            lower = trace_lower_bound(W, signs)
            assert Fraction(lower) <= exact
            assert lower == pytest.approx(float(exact), rel=1e-12)


def test_log_det_bound():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(5, 5))
    for f in (scalings.aol, scalings.spectral, scalings.multi_step):
        t = f(W)
        for _ in range(5):
            A = rng.normal(size=(5, 5))
            assert log_det_lower_bound(W, A @ A.T) <= np.log(t).sum()
    Q = np.linalg.qr(W)[0]  # W^T W = I: the optimum is t = 1, the dual point the identity
    assert log_det_lower_bound(Q, np.eye(5)) == pytest.approx(0, abs=1e-11)
    assert log_det_lower_bound(Q, np.eye(5)) <= 0
    assert log_det_lower_bound(1e3 * Q, 1e-6 * np.eye(5)) == pytest.approx(10 * np.log(1e3), rel=1e-12)
    assert log_det_lower_bound(W, np.zeros((5, 5))) == -np.inf


@pytest.mark.parametrize("form", ["linear", "residual"])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_bound(form, groups):
    """One 1 x 1 kernel: each frequency is the matrix itself, so the bound is that of the matrix."""
    rng = np.random.default_rng(0)
    K = rng.normal(size=(4, 4 // groups, 3, 3))
    geometry = Geometry(padding_mode="circular", groups=groups, image_size=(4, 6))
    frequencies = sum(1 for i in range(4) for j in range(6) if (i * 6 + j) <= (-i % 4) * 6 + (-j % 6))
    Y = rng.normal(size=(frequencies, 4, 2)) + 1j * rng.normal(size=(frequencies, 4, 2))
    lower = convolution_trace_lower_bound(K, Y, geometry, form=form)
    assert 0 < lower <= convolution_aol(K, geometry, form=form).sum()


def test_convolution_bound_of_a_pointwise_kernel():
    w = np.array([[3.0, -1.0, 2.0]])
    geometry = Geometry(padding_mode="circular", image_size=(1, 1))
    Y = np.sign(w).T[None].astype(complex)
    assert convolution_trace_lower_bound(w[:, :, None, None], Y, geometry) == pytest.approx(36, rel=1e-12)
    t = abs(w[0]) * abs(w).sum()
    assert certify(w, t).c == pytest.approx(1, rel=1e-12)
    assert convolution_trace_lower_bound(w[:, :, None, None], 0 * Y, geometry) == 0


def test_bad_dual_points_are_refused():
    W = np.ones((2, 3))
    with pytest.raises(InvalidScaling, match="3 rows"):
        trace_lower_bound(W, np.ones((2, 2)))
    with pytest.raises(InvalidScaling, match="cost"):
        trace_lower_bound(W, np.ones((3, 2)), np.array([1.0, 0, 1]))
    with pytest.raises(InvalidScaling, match="image_size"):
        convolution_trace_lower_bound(np.ones((2, 2, 3)), np.ones((1, 2, 1)), Geometry())

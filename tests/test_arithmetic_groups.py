"""Laws of functions of groups: no two points are stretched by more than the constant, and torch makes the same values."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sdplip.arithmetic.groups import GROUPED
from sdplip.errors import InvalidWeight

CASES: Mapping[str, dict[str, Any]] = {
    "softmax": {},
    "softmin": {},
    "log_softmax": {},
    "shared_logsumexp": {},
    "layer_norm": {"eps": 1e-3},
    "rms_norm": {"eps": 1e-3},
    "normalize": {"eps": 0.1},
    "householder": {"a": 0.6, "b": -0.9},
}
TORCH: Mapping[str, Callable[..., torch.Tensor]] = {
    "softmax": lambda x: F.softmax(x, -1),
    "softmin": lambda x: F.softmin(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "shared_logsumexp": lambda x: torch.logsumexp(x, -1, keepdim=True).expand(x.shape) / x.shape[-1],
    "layer_norm": lambda x, eps: F.layer_norm(x, x.shape[-1:], eps=eps),
    "rms_norm": lambda x, eps: F.rms_norm(x, x.shape[-1:], eps=eps),
    "normalize": lambda x, eps: F.normalize(x, dim=-1, eps=eps),
}


def sizes(name: str) -> tuple[int, ...]:
    return (2,) if name == "householder" else (1, 2, 3, 10)


def test_every_function_is_tested() -> None:
    assert set(CASES) == set(GROUPED)


@pytest.mark.parametrize("name", CASES)
def test_no_two_points_are_stretched_by_more(name: str) -> None:
    rng, f, p = np.random.default_rng(0), GROUPED[name], CASES[name]
    for size in sizes(name):
        L = f.constant(size, **p)
        for scale in (1e-3, 0.1, 1.0, 30.0):
            x = rng.normal(size=(400, size)) * scale + rng.choice([0.0, 1.0], size=(400, 1)) * rng.normal(
                size=size
            )
            y = x + rng.normal(size=x.shape) * scale * 10.0 ** -rng.integers(0, 6, size=(400, 1))
            far = np.linalg.norm(f.value(x, **p) - f.value(y, **p), axis=-1)
            assert (far <= L * np.linalg.norm(x - y, axis=-1) * (1 + 1e-6) + 1e-12).all()


@pytest.mark.parametrize("name", TORCH)
def test_values_are_those_of_torch(name: str) -> None:
    x = np.random.default_rng(1).normal(size=(5, 3, 4)) * 4
    x[0, 0] = [800.0, -800.0, 0.0, 1.0]
    np.testing.assert_allclose(
        GROUPED[name].value(x, **CASES[name]),
        TORCH[name](torch.from_numpy(x), **CASES[name]).numpy(),
        rtol=1e-11,
        atol=1e-13,
    )


def test_constants_that_are_reached() -> None:
    assert GROUPED["softmax"].constant(2) == 0.5
    J = np.diag([0.5, 0.5]) - 0.25
    assert np.isclose(np.linalg.norm(J, 2), 0.5)
    for size in (4, 5):
        p = np.zeros(size)
        p[0] = 1
        norm = np.linalg.norm(np.eye(size) - np.outer(np.ones(size), p), 2)
        assert norm <= GROUPED["log_softmax"].constant(size) <= norm * (1 + 1e-12)
    assert GROUPED["log_softmax"].constant(1) == 0
    assert (
        0.5 <= GROUPED["shared_logsumexp"].constant(4) <= 0.5 * (1 + 1e-15)
    )  # |1| |p| / 4 at p = (1, 0, 0, 0)
    assert 1 <= GROUPED["rms_norm"].constant(3, eps=0.25) / 2 < 1 + 1e-14
    assert 1 <= GROUPED["layer_norm"].constant(3, eps=np.array([4.0, 0.25])) / 2 < 1 + 1e-14
    assert 1 <= GROUPED["normalize"].constant(3, eps=0.5) / 2 < 1 + 1e-14
    assert GROUPED["householder"].constant(2, a=0.6, b=0.8) < 1 + 1e-14
    v = np.array([0.6, -0.9])
    assert (
        GROUPED["householder"].constant(2, a=0.6, b=-0.9)
        >= np.linalg.norm(np.eye(2) - 2 * np.outer(v, v), 2) - 1e-15
    )


@pytest.mark.parametrize("eps", [0.0, -1.0, np.nan, np.inf, 1e-320, np.array([1.0, 0.0])])
def test_an_eps_that_bounds_nothing_is_refused(eps: Any) -> None:
    for name in ("layer_norm", "rms_norm", "normalize"):
        with pytest.raises(InvalidWeight, match="eps"):
            GROUPED[name].constant(3, eps=eps)


def test_householder_acts_on_pairs() -> None:
    with pytest.raises(InvalidWeight, match="pairs"):
        GROUPED["householder"].constant(3, a=1.0, b=0.0)
    from sdplip.nn.activations import Householder

    layer = Householder(6).double()
    torch.nn.init.uniform_(layer.theta, -3, 3)
    x = torch.randn(7, 6, dtype=torch.float64)
    a, b = (v.detach().numpy() for v in layer.mirror())
    pairs = np.stack([x.numpy()[:, :3], x.numpy()[:, 3:]], -1)
    found = GROUPED["householder"].value(pairs, a=a, b=b)
    expected = layer(x).detach().numpy()
    np.testing.assert_allclose(np.concatenate([found[..., 0], found[..., 1]], -1), expected, atol=1e-14)

"""Laws of every function in the table, against 60 digits: slopes, values and difference quotients lie where the table says."""

from collections.abc import Callable, Mapping
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sdplip.arithmetic import elementary
from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.errors import InvalidWeight
from tests.flush import denormals

mp.mp.prec = 200
FAR = 400
"""Beyond, exponentials do not count."""


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def softplus(x):
    return max(x, 0) + mp.log1p(mp.exp(-abs(x)))


def clip(x, low=-1.0, high=1.0):
    return min(max(x, low), high)


def bump(f: Callable) -> Callable:
    """f near 0; its limit far away, up to what no double shows."""
    return lambda x: f(x) if abs(x) < FAR else max(x, mp.mpf(-2) ** -1074)


def below_zero(f: Callable) -> Callable:
    return lambda x, alpha=1.0, **rest: x if x > 0 else mp.mpf(alpha) * f(x / alpha if rest else x)


ORACLES: Mapping[str, Callable] = {
    "identity": lambda x: x,
    "relu": lambda x: max(x, 0),
    "leaky_relu": lambda x, negative_slope=0.01: x if x > 0 else mp.mpf(negative_slope) * x,
    "prelu": lambda x, slope=0.25: x if x > 0 else mp.mpf(slope) * x,
    "relu6": lambda x: clip(x, 0, 6),
    "hardtanh": clip,
    "clip": clip,
    "maximum": lambda x, floor=0.0: max(x, floor),
    "minimum": lambda x, ceiling=0.0: min(x, ceiling),
    "abs": abs,
    "softshrink": lambda x, lambd=0.5: x - clip(x, -lambd, lambd),
    "nactivation": lambda x, low=-1.0, high=0.0: x - 2 * clip(x, low, high),
    "hardsigmoid": lambda x: clip(x + 3, 0, 6) / mp.mpf(6),
    "sigmoid": sigmoid,
    "tanh": mp.tanh,
    "tanhshrink": lambda x: x - mp.tanh(x),
    "softsign": lambda x: x / (1 + abs(x)),
    "logsigmoid": lambda x: -softplus(-x),
    "softplus": lambda x, beta=1.0, threshold=20.0: softplus(mp.mpf(beta) * x) / beta,  # noqa: ARG005
    "elu": lambda x, alpha=1.0: x if x > 0 else mp.mpf(alpha) * mp.expm1(x),
    "selu": lambda x, alpha=1.6732632423543772, gamma=1.0507009873554805: (
        gamma * (x if x > 0 else mp.mpf(alpha) * mp.expm1(x))
    ),
    "celu": lambda x, alpha=1.0: x if x > 0 else mp.mpf(alpha) * mp.expm1(x / alpha),
    "silu": lambda x, beta=1.0: x * sigmoid(mp.mpf(beta) * x),
    "mish": lambda x: x * mp.tanh(softplus(x)),
    "gelu": bump(lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2),
    "gelu_tanh": bump(lambda x: x * sigmoid(2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))),
    "hardswish": lambda x: x * clip(x + 3, 0, 6) / mp.mpf(6),
    "erf": lambda x: mp.erf(x) if abs(x) < FAR else mp.sign(x),
    "atan": mp.atan,
    "sin": mp.sin,
    "cos": mp.cos,
}

PARAMETERS: Mapping[str, list[dict[str, float]]] = {
    "leaky_relu": [{}, {"negative_slope": -2.0}, {"negative_slope": 0.0}],
    "prelu": [{}, {"slope": 3.0}],
    "clip": [{}, {"low": 0.3, "high": 0.7}, {"low": -0.25, "high": 1e200}, {"low": 2.0, "high": 2.0}],
    "maximum": [{}, {"floor": 2.5}],
    "minimum": [{}, {"ceiling": -2.5}],
    "softshrink": [{}, {"lambd": 0.0}, {"lambd": 2.0}],
    "nactivation": [{}, {"low": -1.3, "high": 2.0}],
    "softplus": [{}, {"beta": 10.0}, {"beta": 1e-3}, {"beta": 1e200}, {"beta": 1e-200}],
    "elu": [{}, {"alpha": -0.7}, {"alpha": 3.0}, {"alpha": 0.0}],
    "selu": [
        {},
        {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
        {"alpha": -1.0, "gamma": -2.0},
    ],
    "celu": [{}, {"alpha": 0.3}, {"alpha": 1e-200}, {"alpha": 1e200}],
    "silu": [{}, {"beta": 1.702}, {"beta": 0.01}],
}
CASES = [(name, p) for name in FUNCTIONS for p in PARAMETERS.get(name, [{}])]
SPECIAL = np.array(
    [
        0.0,
        3,
        -3,
        6,
        -1,
        1,
        0.5,
        -0.5,
        -1.5,
        2**0.5,
        -(2**0.5),
        -1.19243121451549,
        -0.7517915246935645,
        -1.2784645427610738,
        2.3993572805154677,
        -2.3993572805154677,
        -2.256376396360793,
        1.4905711794854283,
        1.4185040087908284,
        0.3,
        0.7,
        np.pi / 2,
        np.pi,
    ]
)


def drawn(rng: np.random.Generator, n: int) -> np.ndarray:
    """Numbers of all sizes, subnormal ones too, and the places where functions bend."""
    kinds = [
        rng.normal(size=n) * 2,
        rng.normal(size=n) * 30,
        np.ldexp(rng.normal(size=n), rng.integers(-1070, 1020, size=n)),
        rng.choice(SPECIAL, size=n),
        rng.normal(size=n) * 300,
        rng.normal(size=n) * 1e-8,
    ]
    return np.choose(rng.integers(0, len(kinds), size=n), kinds)


def intervals(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    a = drawn(rng, n)
    near = a + drawn(rng, n) * 10.0 ** rng.integers(-12, 1, size=n)
    b = np.where(rng.random(n) < 0.1, a, np.where(rng.random(n) < 0.4, near, drawn(rng, n)))
    return np.minimum(a, b), np.maximum(a, b)


def test_every_function_has_an_oracle() -> None:
    assert set(ORACLES) == set(FUNCTIONS)


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize(("name", "p"), CASES)
def test_values_and_difference_quotients_lie_in_their_ranges(
    name: str, p: dict[str, float], flush: bool
) -> None:
    rng, f, oracle = np.random.default_rng(len(name)), FUNCTIONS[name], ORACLES[name]
    low, high = intervals(rng, 200)
    with denormals(flush):
        (least, most), (d0, d1), (alpha, beta) = (
            f.values(low, high, **p),
            f.derivatives(low, high, **p),
            f.slopes(**p),
        )
    assert (alpha <= d0).all() and (d0 <= d1).all() and (d1 <= beta).all() and (least <= most).all()
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        inside = a + rng.random(2) * (b - a) if np.isfinite(b - a) else np.array([a / 2 + b / 2])
        xs = sorted({a, b, *np.clip(np.append(inside, rng.choice(SPECIAL)), a, b)})
        ys = [oracle(mp.mpf(float(x)), **p) for x in xs]
        for x, y in zip(xs, ys, strict=True):
            assert mp.mpf(float(least[i])) <= y <= mp.mpf(float(most[i])), (x, a, b)
        for (x, y), (z, w) in zip(zip(xs, ys, strict=True), list(zip(xs, ys, strict=True))[1:], strict=False):
            step = mp.mpf(float(z)) - mp.mpf(float(x))
            slope, error = (w - y) / step, mp.mpf(2) ** -150 * (1 + abs(y)) / min(step, 1)
            assert mp.mpf(float(d0[i])) - error <= slope <= mp.mpf(float(d1[i])) + error, (x, z)


@pytest.mark.parametrize(("name", "p"), CASES)
def test_ranges_are_tight_at_points_and_wide_where_nothing_is_known(name: str, p: dict[str, float]) -> None:
    rng, f = np.random.default_rng(1), FUNCTIONS[name]
    x = rng.normal(size=300) * 3
    least, most = f.values(x, x, **p)
    unit = 1e-11 * max(
        [1.0, *(1 / v for k, v in p.items() if k == "beta"), *(abs(v) for k, v in p.items() if k == "alpha")]
    )
    assert (most - least <= unit * (1 + abs(x))).all()
    y = f.value(x, **p)
    assert (least - unit <= y).all() and (y <= most + unit).all()
    alpha, beta = f.slopes(**p)
    for low, high in ((-np.inf, np.inf), (np.nan, 1.0), (2.0, 1.0)):
        values, d = f.values([low], [high], **p), f.derivatives([low], [high], **p)
        assert values[0] <= least.min() and values[1] >= most.max()
        assert d[0] <= alpha + 1e-12 and d[1] >= beta - 1e-12


@pytest.mark.parametrize(("name", "p"), CASES)
def test_values_at_the_ends_of_double_precision_without_a_warning(name: str, p: dict[str, float]) -> None:
    f, x = FUNCTIONS[name], np.array([1e308, -1e308, 5e-324, 0.0, 700.0, -800.0])
    assert np.isfinite(f.value(x[2:], **p)).all()
    f.value(np.array([np.inf, -np.inf, np.nan]), **p)
    for ends in (
        f.values(x, x, **p),
        f.derivatives(x, x, **p),
        f.derivatives(-abs(x), np.full(6, np.inf), **p),
    ):
        assert not np.isnan(ends).any() and (ends[0] <= ends[1]).all()


@pytest.mark.parametrize(("name", "p"), [case for case in CASES if case[1]])
def test_one_parameter_an_entry(name: str, p: dict[str, float]) -> None:
    f, rng = FUNCTIONS[name], np.random.default_rng(2)
    low, high = intervals(rng, 12)
    ours = {key: np.full(12, value) for key, value in p.items()}
    for call in (f.values, f.derivatives):
        for one, each in zip(call(low, high, **p), call(low, high, **ours), strict=True):
            np.testing.assert_array_equal(one, each)
    for one, each in zip(f.slopes(**p), f.slopes(**ours), strict=True):
        np.testing.assert_array_equal(np.broadcast_to(one, 12), np.broadcast_to(each, 12))
    np.testing.assert_array_equal(f.value(low, **p), f.value(low, **ours))


@pytest.mark.parametrize(("name", "p"), [case for case in CASES if FUNCTIONS[case[0]].pieces])
def test_pieces_are_the_function(name: str, p: dict[str, float]) -> None:
    f = FUNCTIONS[name]
    assert f.pieces is not None
    knots, slopes, first = f.pieces(**p)
    assert len(slopes) == len(knots) + 1 and (np.diff(knots) >= 0).all()
    x = np.linspace(-9, 9, 400)
    y = first + slopes[0] * np.minimum(x - knots[0], 0)
    for k, slope in enumerate(slopes[1:]):
        right = knots[k + 1] if k + 1 < len(knots) else np.inf
        y = y + slope * np.clip(x - knots[k], 0, right - knots[k])
    np.testing.assert_allclose(y, f.value(x, **p), atol=1e-13)


TORCH: Mapping[str, Callable[..., Any]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "prelu": lambda x, slope=0.25: F.prelu(x, torch.tensor([slope]).double()),
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "clip": lambda x, low=-1.0, high=1.0: x.clamp(low, high),
    "abs": torch.abs,
    "softshrink": F.softshrink,
    "maximum": lambda x, floor=0.0: F.threshold(x, floor, floor),
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "tanhshrink": F.tanhshrink,
    "softsign": F.softsign,
    "logsigmoid": F.logsigmoid,
    "softplus": F.softplus,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "silu": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hardswish": F.hardswish,
    "erf": torch.erf,
    "atan": torch.atan,
    "sin": torch.sin,
    "cos": torch.cos,
    "identity": lambda x: x,
}


@pytest.mark.parametrize("name", TORCH)
def test_values_are_those_of_torch(name: str) -> None:
    x = np.concatenate(
        [np.random.default_rng(3).normal(size=500) * 5, SPECIAL, [1e-300, 40.0, -40.0, 1e6, -1e6]]
    )

    for p in PARAMETERS.get(name, [{}]):
        if (
            (name == "selu" and p)
            or any(abs(v) > 1e100 for v in p.values())
            or (name == "celu" and p.get("alpha") == 1e-200)
        ):
            continue
        given = p
        if name == "silu" and p:
            found = torch.from_numpy(x) * torch.sigmoid(p["beta"] * torch.from_numpy(x))
        else:
            found = TORCH[name](torch.from_numpy(x), **given)
        apart = (
            3e-9 / p.get("beta", 1.0) if name == "softplus" else 1e-12
        )  # torch's step down to the identity
        np.testing.assert_allclose(FUNCTIONS[name].value(x, **p), found.numpy(), rtol=1e-12, atol=apart)


def test_largest_slopes_are_those_of_sixty_digits() -> None:
    for name, near in (("gelu", 1.414), ("silu", 2.4), ("mish", 1.49), ("gelu_tanh", 1.4185)):
        f, (alpha, beta) = ORACLES[name], FUNCTIONS[name].slopes()
        steepest = mp.diff(f, mp.findroot(lambda x, f=f: mp.diff(f, x, 2), near))
        flattest = mp.diff(
            f, mp.findroot(lambda x, f=f: mp.diff(f, x, 2), -2.25 if name == "mish" else -near)
        )
        assert 0 <= mp.mpf(beta) - steepest < 1e-15 and 0 <= flattest - mp.mpf(alpha) < 1e-15
    assert 0 <= mp.mpf(FUNCTIONS["erf"].slopes()[1]) - 2 / mp.sqrt(mp.pi) < 1e-15
    assert 0 <= mp.mpf(FUNCTIONS["hardsigmoid"].slopes()[1]) - mp.mpf(1) / 6 < 1e-15
    assert FUNCTIONS["elu"].slopes(alpha=1.5) == (0.0, 1.5) and FUNCTIONS["elu"].slopes(alpha=-0.5) == (
        -0.5,
        1.0,
    )


@pytest.mark.parametrize("name", ["gelu", "silu", "mish", "gelu_tanh"])
def test_extremes_are_found_however_narrow_the_interval(name: str) -> None:
    f, ours = ORACLES[name], FUNCTIONS[name]
    roots = [
        mp.findroot(lambda x: mp.diff(f, x, 2), at)
        for at in {"silu": (-2.4, 2.4), "mish": (-2.25, 1.49)}.get(name, (-1.417, 1.417))
    ]
    bottom = mp.findroot(lambda x: mp.diff(f, x), -1)
    for width in (0.0, 1e-16, 1e-13, 1e-12, 1e-9, 1e-3, 1.0):
        for c in roots:
            low, high = np.array([float(c) - width]), np.array([float(c) + width])
            a, b = ours.derivatives(low, high)
            assert mp.mpf(float(a[0])) - 1e-25 <= mp.diff(f, c) <= mp.mpf(float(b[0])) + 1e-25 or width == 0
        a, _ = ours.values(np.array([float(bottom) - width]), np.array([float(bottom) + width]))
        assert mp.mpf(float(a[0])) <= f(bottom)


def test_a_negative_zero_is_zero() -> None:
    for zero in (0.0, -0.0):
        low, high = FUNCTIONS["relu"].derivatives([zero, -1.0], [1.0, zero])
        assert low.tolist() == high.tolist() == [1, 0]
        assert FUNCTIONS["relu"].values([zero], [1.0])[0] == 0


@pytest.mark.parametrize(
    ("name", "p"),
    [
        ("softplus", {"beta": 0.0}),
        ("softplus", {"beta": -1.0}),
        ("softplus", {"threshold": 0.1}),
        ("softplus", {"beta": np.nan}),
        ("celu", {"alpha": -1.0}),
        ("celu", {"alpha": 0.0}),
        ("softshrink", {"lambd": -0.1}),
        ("hardtanh", {"low": 1.0, "high": -1.0}),
        ("clip", {"low": np.inf, "high": np.inf}),
        ("leaky_relu", {"negative_slope": np.nan}),
        ("elu", {"alpha": np.inf}),
        ("silu", {"beta": -1.0}),
        ("nactivation", {"low": 1.0, "high": 0.0}),
        ("prelu", {"slope": np.array([0.1, np.nan])}),
        ("softplus", {"beta": np.array([1.0, -1.0])}),
    ],
)
def test_wrong_parameters_are_refused_in_words(name: str, p: dict[str, Any]) -> None:
    for call in (
        FUNCTIONS[name].slopes,
        lambda **p: FUNCTIONS[name].values([0.0], [1.0], **p),
        lambda **p: FUNCTIONS[name].derivatives([0.0], [1.0], **p),
    ):
        with pytest.raises(InvalidWeight, match="`"):
            call(**p)


ELEMENTARY = {
    "decay": (elementary.decay, lambda x: mp.exp(-x), elementary.EXP, 0.0),
    "log1p": (elementary.log1p, mp.log1p, elementary.LOG, 0.0),
    "log": (elementary.log, mp.log, elementary.LOG, elementary.LOG),
    "erf": (elementary.erf, ORACLES["erf"], 0.0, elementary.ERF),
    "atan": (elementary.atan, mp.atan, 0.0, elementary.ATAN),
}


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_functions_keep_their_word(name: str, flush: bool) -> None:
    ours, true, relative, absolute = ELEMENTARY[name]
    rng = np.random.default_rng(4)
    x = np.concatenate(
        [
            rng.normal(size=300) * 4,
            rng.random(300),
            10.0 ** rng.uniform(-320, 300, 400),
            rng.random(300) * 760,
            [0.0, 708, 709, 745, 746, 6.0, 1e308],
        ]
    )
    x = np.minimum(abs(x), 1.0) if name == "log1p" else abs(x) if name == "decay" else x
    x = np.maximum(abs(x), 2.0**-1022) if name == "log" else x
    with denormals(flush):
        y = ours(x)
    for a, b in zip(x, y, strict=True):
        t = true(mp.mpf(float(a)))
        assert abs(mp.mpf(float(b)) - t) <= relative * abs(t) + absolute + 2.0**-1022
    assert np.isnan(ours(np.array([np.nan]))).all()

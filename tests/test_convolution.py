"""Laws of convolutions: every scaling meets its condition on the dense matrix of the layer that really runs."""

import functools
import itertools
import math
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sdplip import scalings
from sdplip.condition import inverse_scaling
from sdplip.convolution import (
    aol,
    autocorrelation,
    dense_matrix,
    gershgorin,
    identity,
    multi_step,
    norm_circular,
    perron,
    spectral,
    symbol,
)
from sdplip.convolution.symbols import symbol_at
from sdplip.errors import InvalidScaling, InvalidWeight, UnsupportedConvolution
from sdplip.geometry import Geometry

FORMS = ("linear", "residual")
PLAIN = Geometry()
ROUNDING = 1e-10  # of eigenvalues of matrices with up to 1000 rows and entries near 1, with a wide margin


def weights(K, geometry, form):
    """SLL weights that differ by a factor of 20."""
    ones = identity(K, geometry, form=form)
    q = np.exp(1.5 * np.sin(1.0 + np.arange(len(ones))))
    return q.astype(K.dtype) if isinstance(K, np.ndarray) else torch.from_numpy(q).to(K)


def gershgorin_q(K, geometry=PLAIN, *, form="linear"):
    return gershgorin(K, weights(K, geometry, form), geometry, form=form)


def two_steps(K, geometry=PLAIN, *, form="linear"):
    return multi_step(K, 2, None, geometry, form=form)


def three_steps_q(K, geometry=PLAIN, *, form="linear"):
    return multi_step(K, 3, weights(K, geometry, form), geometry, form=form)


VALID = {
    "spectral": spectral,
    "spectral coarse": functools.partial(spectral, iterations=2, samples=2),
    "aol": aol,
    "gershgorin": gershgorin_q,
    "perron": perron,
    "perron early": functools.partial(perron, iterations=1),
    "two steps": two_steps,
    "three steps with q": three_steps_q,
}
"""Every scaling that satisfies the condition, as a function of kernel, geometry and form."""

every_scaling = pytest.mark.parametrize("name", VALID)
every_form = pytest.mark.parametrize("form", FORMS)


def kernels(shape: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """Random, constant, signs under which many products agree or cancel, and one with zero channels."""
    rng, index = np.random.default_rng(seed), np.indices(shape)
    with_zeros = rng.standard_normal(shape)
    with_zeros[0], with_zeros[:, -1] = 0, 0
    return [
        rng.standard_normal(shape),
        np.ones(shape),
        (-1.0) ** index.sum(0),
        (-1.0) ** (index[2:].prod(0) // 2 + index[0]),
        np.sign(rng.standard_normal(shape)),
        with_zeros,
    ]


def draw(axes: int, seed: int) -> tuple[tuple[int, ...], Geometry]:
    """A kernel shape, and a geometry with an image size: every axis of its own, images from one pixel to wide."""
    rng = random.Random(1000 * axes + seed)
    taps = [rng.choice([1, 2, 3, 4, 5][: 6 - axes]) for _ in range(axes)]
    dilation = [rng.choice([1, 1, 2]) for _ in range(axes)]
    stride = [rng.choice([1, 1, 2, 3]) for _ in range(axes)]
    reach = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
    circular, groups, most = seed % 2 == 1, rng.choice([1, 1, 2]), {1: 14, 2: 8, 3: 5}[axes]
    padding = rng.choice([None, 0, 0.5, 0.5 if circular else 1.5])
    pad = None if padding is None else tuple(int(padding * r) for r in reach)
    fits = [1 if pad is None else max(1, r - 2 * p + 1) for r, p in zip(reach, pad or reach, strict=True)]
    image = [rng.randint(least, max(least, most)) for least in fits]
    if circular:
        image = [-(-h // s) * s for h, s in zip(image, stride, strict=True)]
    shape = (groups * rng.choice([1, 2, 3]), rng.choice([1, 2]), *taps)
    mode = "circular" if circular else "zeros"
    return shape, Geometry(tuple(stride), mode, pad, tuple(dilation), groups, tuple(image))


CASES = [(axes, seed) for axes, count in ((1, 60), (2, 36), (3, 18)) for seed in range(count)]


@functools.cache
def dense_case(axes: int, seed: int) -> tuple[Geometry, list[tuple[np.ndarray, np.ndarray]]]:
    shape, geometry = draw(axes, seed)
    return geometry, [(K, dense_matrix(K, geometry)) for K in kernels(shape, seed)]


def largest(C: np.ndarray, t: np.ndarray, form: str) -> float:
    """Largest eigenvalue of the scaled Gram matrix; infinite if `t` is 0 on a channel that is not."""
    M = C if form == "linear" else C.T
    t = np.repeat(t, M.shape[1] // len(t))
    if (t < 0).any() or M[:, t == 0].any():
        return np.inf
    return float(np.linalg.norm(M * inverse_scaling(t, 0.5), 2) ** 2)


@every_form
@every_scaling
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_every_scaling_meets_the_condition(axes, name, form):
    for case in [c for c in CASES if c[0] == axes]:
        geometry, pairs = dense_case(*case)
        for K, C in pairs:
            for known in (geometry, replace(geometry, image_size=None)):
                t = VALID[name](K, known, form=form)
                assert t.shape == identity(K, known, form=form).shape
                assert largest(C, t, form) <= 1 + ROUNDING, (known, K.shape)


def test_the_cases_cover_what_they_claim():
    drawn = [draw(*case) for case in CASES]
    assert {k for shape, _ in drawn for k in shape[2:]} == {1, 2, 3, 4, 5}
    for axes in (1, 2, 3):
        seen = [g for shape, g in drawn if len(shape) == axes + 2]
        for field, wanted in (("stride", {1, 2, 3}), ("dilation", {1, 2})):
            assert {v for g in seen for v in getattr(g, field)} == wanted
        assert {(g.padding_mode, g.groups) for g in seen} == {
            (m, n) for m in ("zeros", "circular") for n in (1, 2)
        }
        smaller = [s for s, g in drawn if len(s) == axes + 2 and min(np.array(g.image_size) - s[2:]) < 0]
        assert smaller, "no image smaller than the kernel"


@every_form
@every_scaling
def test_every_image_size_of_a_strided_circular_convolution_includes_sizes_that_the_stride_does_not_divide(
    name, form
):
    for K in kernels((3, 2, 3), 0):
        geometry = Geometry(stride=2, padding_mode="circular")
        C = dense_matrix(K, replace(geometry, stride=1), (7,))
        C = C.reshape(3, 7, -1)[:, ::2].reshape(12, -1)  # what torch computes: outputs 0, 2, 4, 6
        x = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 2, 7)))
        y = F.conv1d(F.pad(x, (1, 1), mode="circular"), torch.from_numpy(K), stride=2)
        np.testing.assert_allclose(C @ x.numpy().ravel(), y.numpy().ravel(), atol=1e-13)
        assert largest(C, VALID[name](K, geometry, form=form), form) <= 1 + ROUNDING


@pytest.mark.parametrize("case", CASES[::3])
def test_the_dense_matrix_is_the_convolution_of_torch(case):
    shape, geometry = draw(*case)
    K = np.random.default_rng(0).standard_normal(shape)
    image = geometry.image_size
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, shape[2:], strict=True)]
    sides = [
        (r // 2, r - r // 2) if geometry.padding is None else (p, p)
        for r, p in zip(reach, geometry.padding or reach, strict=True)
    ]
    if geometry.padding_mode == "circular" and any(max(p) > h for p, h in zip(sides, image, strict=True)):
        pytest.skip("torch refuses to wrap around more than once")
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((1, shape[1] * geometry.groups, *image)))
    flat = [p for side in reversed(sides) for p in side]
    padded = F.pad(x, flat, mode="circular") if geometry.padding_mode == "circular" else F.pad(x, flat)
    conv = (F.conv1d, F.conv2d, F.conv3d)[case[0] - 1]
    y = conv(padded, torch.from_numpy(K), None, geometry.stride, 0, geometry.dilation, geometry.groups)
    np.testing.assert_allclose(dense_matrix(K, geometry) @ x.numpy().ravel(), y.numpy().ravel(), atol=1e-13)


@every_form
@pytest.mark.parametrize("name", ["identity", "spectral", "aol", "gershgorin", "perron", "multi_step"])
@pytest.mark.parametrize("ones", [(1,), (1, 1), (1, 1, 1)])
def test_a_kernel_of_one_tap_is_a_matrix(ones, name, form):
    K = np.random.default_rng(3).standard_normal((4, 6, *ones))
    W = K.reshape(4, 6) if form == "linear" else K.reshape(4, 6).T
    q = weights(K, PLAIN, form)
    ours = {
        "identity": identity(K, form=form),
        "spectral": spectral(K, form=form),
        "aol": aol(K, form=form),
        "gershgorin": gershgorin(K, q, form=form),
        "perron": perron(K, form=form),
        "multi_step": multi_step(K, 3, q, form=form),
    }
    arguments = {"gershgorin": (q,), "multi_step": (3, q)}.get(name, ())
    np.testing.assert_allclose(ours[name], getattr(scalings, name)(W, *arguments), rtol=1e-12)


@every_form
@every_scaling
def test_a_shift_times_an_orthogonal_matrix_has_t_one(name, form):
    K = np.zeros((4, 4, 3, 2))
    K[:, :, 2, 0] = np.linalg.qr(np.random.default_rng(4).standard_normal((4, 4)))[0]
    between_frequencies, frobenius = (2 / (1 + math.cos(math.pi / 16))) ** 2, 4 ** (1 / 2**8)
    slack = {"spectral": between_frequencies * frobenius, "spectral coarse": 2**2 * 4 ** (1 / 2**3)}.get(
        name, 1
    )
    np.testing.assert_allclose(VALID[name](K, form=form), slack, rtol=1e-12)


def test_known_answers():
    box = np.ones((1, 1, 3))
    for form in FORMS:  # a constant image is stretched by 3: every bound is exact
        for t in (aol(box, form=form), perron(box, form=form), multi_step(box, form=form)):
            np.testing.assert_allclose(t, 9, rtol=1e-12)
    K = np.array([[[1.0, 2.0, 3.0]]])
    np.testing.assert_allclose(aol(K), 14 + 2 * 8 + 2 * 3)
    strided = Geometry(stride=2)  # residual: the offsets 0, 2, -2; linear: phases (1, 3) and (2)
    np.testing.assert_allclose(aol(K, strided, form="residual"), 14 + 2 * 3)
    np.testing.assert_allclose(aol(K, strided), max(1 + 9 + 2 * 3 + 2 + 6, 4 + 2 + 6))
    wrapped = Geometry(padding_mode="circular", image_size=(2,))  # the matrix [[2, 4], [4, 2]] up to order
    np.testing.assert_allclose(aol(np.array([[[1.0, 2.0, -3.0]]]), wrapped), 4 + 4 + 2 * abs(-2 * 2))


@every_form
@every_scaling
@pytest.mark.parametrize("case", CASES[::11])
def test_numpy_and_torch_agree(case, name, form):
    shape, geometry = draw(*case)
    random_, *_, with_zeros = kernels(
        shape, 7
    )  # where products cancel exactly, the roots of `t` show rounding only
    for K in (random_, with_zeros):
        t = VALID[name](torch.from_numpy(K), geometry, form=form)
        np.testing.assert_allclose(t.numpy(), VALID[name](K, geometry, form=form), rtol=1e-9)
    single = torch.from_numpy(random_).float()
    assert VALID[name](single, geometry, form=form).dtype == torch.float32
    assert VALID[name](single.numpy(), geometry, form=form).dtype == np.float32


GEOMETRIES = [
    PLAIN,
    Geometry(stride=2, dilation=3),
    Geometry(padding_mode="circular", image_size=(4, 2), stride=2),
    Geometry(padding=0, image_size=(5, 5)),
]


@every_form
@every_scaling
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_gradients_are_right_and_finite_at_zero_channels(geometry, name, form):
    K = torch.from_numpy(kernels((2, 2, 3, 2), 11)[0]).requires_grad_()

    def t(K):
        return VALID[name](K, geometry, form=form)

    assert torch.autograd.gradcheck(t, (K,), atol=1e-5)
    for zero in (torch.zeros(3, 2, 3, 2), torch.from_numpy(kernels((3, 2, 3, 2), 11)[-1])):
        zero = zero.double().requires_grad_()
        inverse_scaling(t(zero), 0.5).sum().backward()
        assert torch.isfinite(zero.grad).all()


@every_form
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_q_has_a_gradient(geometry, form):
    """Both factors of q_j / q_i on one axis cancel: the error of the published code."""
    K = torch.from_numpy(kernels((4, 3, 3, 2), 12)[0])
    for scaling in (
        lambda q: gershgorin(K, q, geometry, form=form),
        lambda q: multi_step(K, 2, q, geometry, form=form),
    ):
        log_q = torch.zeros(identity(K, geometry, form=form).shape, dtype=torch.double, requires_grad=True)
        (inverse_scaling(scaling(log_q.exp())) ** 2).sum().backward()
        assert (abs(log_q.grad) > 1e-12).all()


@every_form
@every_scaling
@pytest.mark.parametrize("case", CASES[1::9])
def test_equivariance(case, name, form):
    shape, geometry = draw(*case)
    f = functools.partial(VALID[name], geometry=geometry, form=form)
    K = kernels(shape, 13)[0]
    t = f(K)
    np.testing.assert_allclose(f(-1e3 * K), 1e6 * t, rtol=1e-9)
    other = (
        K[:, ::-1]
        if form == "residual"
        else K.reshape(geometry.groups, -1, *K.shape[1:])[:, ::-1].reshape(K.shape)
    )
    np.testing.assert_allclose(
        f(np.ascontiguousarray(other)), t, rtol=1e-9
    )  # the channels that t does not scale
    if "q" not in name and name != "gershgorin" and geometry.groups == 1:
        reverse = K[::-1] if form == "residual" else K[:, ::-1]
        np.testing.assert_allclose(f(np.ascontiguousarray(reverse)), t[::-1], rtol=1e-9)


@every_form
@every_scaling
def test_groups_are_separate_convolutions(name, form):
    if "q" in name or name == "gershgorin":
        pytest.skip("these weights depend on the number of channels")
    K = kernels((4, 3, 3), 14)[0]
    parts = [VALID[name](part, form=form) for part in (K[:2], K[2:])]
    np.testing.assert_allclose(
        VALID[name](K, Geometry(groups=2), form=form), np.concatenate(parts), rtol=1e-12
    )


@every_form
@every_scaling
@pytest.mark.parametrize(("stride", "dilation", "same_as"), [(1, 3, 1), (2, 3, 2), (2, 2, 1), (4, 6, 2)])
def test_dilation_only_splits_the_infinite_image(stride, dilation, same_as, name, form):
    K = kernels((2, 2, 3), 15)[0]
    t = VALID[name](K, Geometry(stride, dilation=dilation), form=form)
    np.testing.assert_allclose(t, VALID[name](K, Geometry(same_as), form=form), rtol=1e-12)


@every_form
@pytest.mark.parametrize("case", CASES)
def test_what_is_known_of_the_geometry_only_tightens(case, form):
    shape, geometry = draw(*case)
    q = weights(np.ones(shape), geometry, form)
    for K in kernels(shape, 16):
        known = gershgorin(K, q, geometry, form=form)
        strided = gershgorin(K, q, replace(geometry, padding_mode="zeros", image_size=None), form=form)
        general = gershgorin(
            K, q, replace(geometry, padding_mode="zeros", image_size=None, stride=1), form=form
        )
        assert (known <= strided * (1 + 1e-12)).all()  # wrapped offsets are added before the absolute value
        if form == "residual":
            assert (strided <= general * (1 + 1e-12)).all()  # fewer offsets
        else:  # phases may cancel less than their sum, but never exceed the absolute kernel
            absolute = gershgorin(
                abs(K), q, replace(geometry, padding_mode="zeros", image_size=None, stride=1)
            )
            assert (strided <= absolute * (1 + 1e-12)).all()


@pytest.mark.parametrize("case", [c for c in CASES if c[1] % 2])
def test_the_symbol_has_the_singular_values_of_the_circular_convolution(case):
    shape, geometry = draw(*case)
    K = np.random.default_rng(5).standard_normal(shape)
    geometry = replace(geometry, padding=None)
    expected = np.linalg.svd(dense_matrix(K, geometry), compute_uv=False)
    found = np.sort(np.linalg.svdvals(symbol(K, geometry, geometry.image_size)).ravel())[::-1]
    np.testing.assert_allclose(found, expected[: len(found)], atol=1e-12)
    np.testing.assert_allclose(expected[len(found) :], 0, atol=1e-12)
    np.testing.assert_allclose(norm_circular(K, geometry, geometry.image_size), expected[0], rtol=1e-12)
    every = symbol(K, geometry, geometry.image_size)
    some = tuple(np.array([0, n - 1]) for n in every.shape[1:-2])
    some_at = symbol_at(K, geometry, geometry.image_size, some)
    np.testing.assert_allclose(some_at, np.moveaxis(every, 0, -3)[some], atol=1e-13)


@every_form
@pytest.mark.parametrize("stride", [1, 2])
def test_the_autocorrelation_is_the_kernel_of_the_gram_matrix(stride, form):
    K = kernels((4, 3, 4, 3), 17)[0]
    geometry = Geometry(stride, "circular", groups=2, image_size=(10, 8))
    if form == "linear":
        geometry = replace(geometry, stride=1)
    A = autocorrelation(K, geometry, form=form)
    A = A.reshape(-1, *A.shape[2:])
    C = dense_matrix(K, geometry)
    size = (10, 8) if form == "linear" else (10 // stride, 8 // stride)
    expected = C.T @ C if form == "linear" else C @ C.T
    np.testing.assert_allclose(dense_matrix(A, Geometry(1, "circular", groups=2), size), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3, 3), (3, 2, 5), (2, 2, 3, 3), (1, 1, 2, 2, 2)])
def test_spectral_lies_between_the_norm_on_a_large_image_and_its_own_factor(shape):
    axes, degree = len(shape) - 2, shape[-1] - 1
    size = {1: 1000, 2: 100, 3: 40}[axes]
    missed = (2 / (1 + math.cos(math.pi * degree / size))) ** axes  # by an image of that size
    for K in [K for K in kernels(shape, 18) if K.any()]:
        on_image = norm_circular(K, PLAIN, (size,) * axes) ** 2
        for samples in (2, 3, 7, 16):
            factor = (2 / (1 + math.cos(math.pi / samples))) ** axes * 3 ** (1 / 2**8)
            t = spectral(K, samples=samples)[0]
            assert on_image <= t * (1 + 1e-12)
            assert t <= on_image * missed * factor * (1 + 1e-12)


@pytest.mark.parametrize("iterations", [1, 3, 4, 7])
@pytest.mark.parametrize("shape", [(6, 2, 3, 3), (2, 6, 4), (4, 4, 2, 3), (1, 1, 3, 2, 2)])
def test_the_search_leaves_out_no_frequency_that_counts(shape, iterations):
    """Against the sum of the eigenvalues' powers at every frequency; flat spectra are those where an early end would show."""
    sizes = tuple(2 * k + 1 for k in shape[2:])
    flat = np.zeros(shape)
    U, _, V = np.linalg.svd(np.random.default_rng(0).random(shape[:2]), full_matrices=False)
    flat[(..., *[0] * (len(shape) - 2))] = U @ V
    for K in filter(np.any, (*kernels(shape, 21), flat, flat + 1e-3 * kernels(shape, 22)[0])):
        squares = np.linalg.svdvals(symbol(K, PLAIN, sizes)).reshape(-1, min(shape[:2])) ** 2
        top, p = squares.max(), 2**iterations
        expected = top * ((squares / top) ** (2 * p)).sum(-1).max() ** (0.5 / p)
        circular = Geometry(padding_mode="circular", image_size=sizes)
        t = spectral(K, circular, iterations=iterations, samples=64)
        np.testing.assert_allclose(t, expected, rtol=1e-9)
        np.testing.assert_allclose(
            spectral(torch.from_numpy(K).float(), circular, iterations=iterations, samples=64).numpy(),
            t,
            rtol=1e-5,
        )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_the_frequencies_of_a_small_padded_image_are_enough(dilation, stride):
    """Nothing but the grid is loose here: many iterations, no factor. A grid that is one pixel short fails by up to 1.3."""
    rng = np.random.default_rng(20)
    for _ in range(60):
        shape = (*rng.integers(1, 3, 2), int(rng.integers(2, 6)))
        geometry = Geometry(
            stride, "zeros", dilation * (shape[2] - 1), dilation, 1, (int(rng.integers(1, 8)),)
        )
        K = rng.standard_normal(shape)
        t = spectral(K, geometry, iterations=12, samples=64)
        assert largest(dense_matrix(K, geometry), t, "linear") <= 1 + ROUNDING


@every_form
def test_more_steps_are_never_above_fewer_and_never_below_the_norm(form):
    for K in kernels((3, 2, 3, 2), 18):
        tops = [multi_step(K, p, form=form).max() for p in (1, 2, 4, 8)]
        for fewer, more in itertools.pairwise(tops):  # doubling p squares the row sums
            assert more <= fewer * (1 + 1e-12)
        assert tops[-1] >= norm_circular(K, PLAIN, (20, 20)) ** 2 * (1 - 1e-12)


@pytest.mark.parametrize("case", CASES[2::7])
def test_a_known_image_makes_spectral_exact_up_to_the_frobenius_norm(case):
    shape, geometry = draw(*case)
    geometry = replace(
        geometry, padding_mode="circular", padding=None, image_size=tuple(3 * s for s in geometry.stride)
    )
    K = kernels(shape, 19)[0]
    t = spectral(K, geometry, iterations=40, samples=64)
    if all(3 * d <= 64 * (k - 1) for k, d in zip(shape[2:], geometry.stride, strict=True)):
        np.testing.assert_allclose(t.max(), norm_circular(K, geometry, geometry.image_size) ** 2, rtol=1e-10)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "cyclic"])
def test_other_paddings_are_refused(mode):
    K, geometry = np.ones((1, 1, 3)), Geometry(padding_mode=mode)
    for refuse in (
        *VALID.values(),
        identity,
        autocorrelation,
        functools.partial(dense_matrix, image_size=(5,)),
    ):
        with pytest.raises(UnsupportedConvolution):
            refuse(K, geometry)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@every_form
def test_reflection_and_replication_really_break_the_condition(mode, form):
    """The reason for the refusal: the exact matrix of the padded layer exceeds 1 with the scaling for zero padding."""
    K = np.ones((1, 1, 5))
    images = torch.eye(12, dtype=torch.double)[:, None]
    C = F.conv1d(F.pad(images, (2, 2), mode=mode), torch.from_numpy(K))[:, 0].numpy().T
    zero = dense_matrix(K, Geometry(), (12,))
    assert largest(zero, aol(K, form=form), form) <= 1 + ROUNDING
    assert largest(C, aol(K, form=form), form) > 1.01


def test_wrong_arguments_are_refused():
    K = np.ones((4, 2, 3))
    with pytest.raises(InvalidScaling, match="4 channels"):
        gershgorin(K, np.ones(2), form="residual")
    with pytest.raises(InvalidScaling, match="2 channels"):
        multi_step(K, 2, np.ones(1))
    with pytest.raises(InvalidWeight, match="image axes"):
        aol(np.ones((4, 2)))
    with pytest.raises(ValueError, match="`form`"):
        aol(K, form="hidden")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`p`"):
        multi_step(K, 0)
    with pytest.raises(ValueError, match="`samples`"):
        spectral(K, samples=1)
    with pytest.raises(UnsupportedConvolution, match="divide"):
        symbol(K, Geometry(stride=2), (5,))
    with pytest.raises(UnsupportedConvolution, match="does not fit"):
        dense_matrix(K, Geometry(padding=0), (2,))
    with pytest.raises(UnsupportedConvolution, match="image_size"):
        dense_matrix(K, PLAIN)


def test_importing_convolutions_does_not_import_torch():
    code = "import sys, sdplip.convolution; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

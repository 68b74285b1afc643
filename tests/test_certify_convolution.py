"""Certificates of convolutions against the dense matrix of the same convolution: every geometry that we accept."""

from itertools import product

import numpy as np
import pytest

from sdplip.arithmetic.twiddle import ERROR, table
from sdplip.convolution import aol, dense_matrix
from sdplip.errors import InvalidScaling, InvalidWeight, UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.kernel.condition import convolution_holds, convolution_lower_bound
from sdplip.proposals import certify, certify_convolution
from tests.exact import inertia_signs, residual_matrix

SHAPES = {1: [(1,), (2,), (3,), (4,)], 2: [(1, 1), (3, 3), (2, 3), (4, 2)], 3: [(2, 2, 2), (3, 1, 2)]}
IMAGES = {1: [(7,), (12,)], 2: [(6, 6), (4, 8)], 3: [(4, 4, 2)]}


def geometries() -> list[tuple[int, tuple[int, ...], Geometry]]:
    every = []
    for axes in (1, 2, 3):
        for taps, size, stride, dilation, groups in product(
            SHAPES[axes], IMAGES[axes], (1, 2), (1, 2), (1, 2)
        ):
            for mode, padding in (("zeros", None), ("zeros", 0), ("zeros", 3), ("circular", None)):
                reach = [dilation * (k - 1) for k in taps]
                if mode == "zeros" and padding == 0 and any(r >= s for r, s in zip(reach, size, strict=True)):
                    continue
                if mode == "circular" and any(s % stride for s in size):
                    continue
                every.append((axes, taps, Geometry(stride, mode, padding, dilation, groups, size)))
    return every[::3]  # every third combination: all values of every parameter occur with one another


def layer(taps: tuple[int, ...], groups: int, form: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    K = rng.normal(size=(8, 4 // groups, *taps)) * 10.0 ** rng.uniform(-3, 3)
    if seed % 4 == 0:
        K = abs(K)  # the worst case of row sums, and of the frequency 0
    return K, rng.uniform(0.1, 10, 4 if form == "linear" else 8)


def least_c(K: np.ndarray, t: np.ndarray, geometry: Geometry, form: str) -> float:
    C = dense_matrix(K, geometry)
    pixels = C.shape[1 if form == "linear" else 0] // len(t)
    r = np.repeat(t, pixels) ** -0.5
    return float(np.linalg.norm(C * r if form == "linear" else r[:, None] * C, 2))


@pytest.mark.parametrize("form", ["linear", "residual"])
def test_enclosures_against_dense_matrices(form):
    for number, (axes, taps, geometry) in enumerate(geometries()):
        K, t = layer(taps, geometry.groups, form, number)
        truth = least_c(K, t, geometry, form)
        label = f"{taps} {geometry}"
        sized = certify_convolution(K, t, geometry, form=form)
        assert sized.c_lower <= truth * (1 + 1e-12) and truth <= sized.c * (1 + 1e-12), label
        if geometry.padding_mode == "circular":
            assert sized.c <= sized.c_lower * (1 + 1e-11), label
        every = certify_convolution(
            K, t, Geometry(geometry.stride, geometry.padding_mode, geometry.padding, geometry.dilation, geometry.groups),
            form=form, grid=(24,) * axes,
        )  # fmt: skip
        assert truth <= every.c * (1 + 1e-12), label
        assert every.c_lower <= every.c <= every.c_lower * 1.25, label


def test_geometries_cover_what_they_should():
    assert len(geometries()) > 80


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry(),
        Geometry(stride=2),
        Geometry(image_size=(5, 6)),
        Geometry(1, "circular", image_size=(4, 4)),
        Geometry(groups=2),
    ],
)
@pytest.mark.parametrize("form", ["linear", "residual"])
def test_certificates_can_be_proven_again_and_altered_ones_cannot(geometry, form):
    K, t = layer((3, 3), geometry.groups, form, 1)
    certificate = certify_convolution(K, t, geometry, form=form)
    assert convolution_holds(K, certificate)
    again = convolution_lower_bound(K, certificate)
    assert certificate.c_lower <= again <= certificate.c_lower * (1 + 1e-11)
    assert not convolution_holds(K * 1.2, certificate)


def test_exact_arithmetic_on_small_circular_convolutions():
    """1-D circular convolutions of size 4: the dense matrix has exact entries, so exact LDL^T judges the certificate."""
    rng = np.random.default_rng(0)
    for trial in range(60):
        K = (
            rng.normal(size=(2, 2, 3))
            if trial % 2
            else rng.integers(-3, 4, (2, 2, 3)) + np.eye(2)[:, :, None]
        )
        t = rng.uniform(1, 3, 2)
        geometry = Geometry(padding_mode="circular", image_size=(4,))
        certificate = certify_convolution(K, t, geometry)
        C, T = dense_matrix(K, geometry), np.repeat(t, 4)
        assert inertia_signs(residual_matrix(C, T, certificate.c))[0]
        assert not inertia_signs(residual_matrix(C, T, certificate.c_lower))[1]


def test_one_by_one_kernels_are_matrices():
    W = np.random.default_rng(0).normal(size=(7, 5))
    t = np.linspace(1, 3, 5)
    matrix, kernel = certify(W, t), certify_convolution(W[:, :, None, None], t)
    assert kernel.c == pytest.approx(matrix.c, rel=1e-12)
    assert kernel.c_lower == pytest.approx(matrix.c_lower, rel=1e-12)


def test_all_sizes_bound_is_close_on_a_fine_grid():
    K, t = layer((3,), 1, "linear", 5)
    certificate = certify_convolution(K, t)
    assert certificate.c <= certificate.c_lower * (1 + 1e-5)


def test_zero_channels():
    K = np.random.default_rng(0).normal(size=(6, 4, 3, 3))
    K[:, 2] = 0
    K[1] = 0
    t = np.array([1.0, 1, 0, 1])
    assert certify_convolution(K, t).c > 0
    assert certify_convolution(K, np.array([1.0, 0, 1, 1, 1, 1]), form="residual").c > 0
    with pytest.raises(InvalidScaling, match="column 0"):
        certify_convolution(K, np.array([0.0, 1, 0, 1]))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "mirror"])
def test_uncovered_padding_is_refused(mode):
    with pytest.raises(UnsupportedConvolution, match=mode):
        certify_convolution(np.ones((1, 1, 3, 3)), np.ones(1), Geometry(padding_mode=mode))


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (Geometry(groups=3), "groups"),
        (Geometry(stride=0), "stride"),
        (Geometry(stride=(1, 2, 3)), "stride"),
        (Geometry(dilation=-1), "dilation"),
        (Geometry(padding_mode="circular", padding=4), "repeats output pixels"),
        (Geometry(stride=2, padding_mode="circular", image_size=(5, 5)), "must divide the image"),
    ],
)
def test_contradictory_geometries_are_refused(geometry, message):
    with pytest.raises(UnsupportedConvolution, match=message):
        certify_convolution(np.ones((4, 2, 3, 3)), np.ones(2 * geometry.groups), geometry)


def test_coarse_grids_and_matrices_are_refused():
    with pytest.raises(UnsupportedConvolution, match="grid"):
        certify_convolution(np.ones((1, 1, 5)), np.ones(1), grid=(8,))
    with pytest.raises(InvalidWeight, match="axes"):
        certify_convolution(np.ones((3, 3)), np.ones(3))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 360])
def test_twiddle_factors(size):
    """Half the promised error, by comparison with the mathematical library in extended precision of its argument."""
    cos, sin = table(size)
    angle = 2 * np.pi * np.arange(size) / size
    assert abs(cos**2 + sin**2 - 1).max() <= 4 * ERROR
    assert abs(cos - np.cos(angle)).max() < 2e-15 and abs(sin - np.sin(angle)).max() < 2e-15
    assert cos[0] == 1 and sin[0] == 0


@pytest.mark.parametrize("form", ["linear", "residual"])
@pytest.mark.parametrize(
    "geometry", [Geometry(), Geometry(stride=2), Geometry(groups=2), Geometry(dilation=2)]
)
def test_diagonal_dominance_proves_tight_scalings_of_every_size(form, geometry):
    """Nonnegative kernels: AOL's t is attained at frequency 0, so no frequency grid alone could prove c <= 1."""
    K = abs(layer((3, 3), geometry.groups, form, 1)[0])
    t = aol(K, geometry, form=form)
    certificate = certify_convolution(K, t, geometry, form=form)
    assert (
        0.6 < certificate.c_lower <= certificate.c <= 1 + 1e-10
    )  # with a stride, one phase of each channel is tight
    assert convolution_holds(K, certificate)


def test_dominance_in_exact_arithmetic():
    """Long images approach the supremum over all sizes: the exact matrix of a circular image obeys the all-sizes bound."""
    rng = np.random.default_rng(3)
    for _ in range(30):
        K = rng.uniform(0, 1, size=(2, 2, 3))
        t = aol(K)
        certificate = certify_convolution(K, t)
        C = dense_matrix(K, Geometry(padding_mode="circular", image_size=(4,)))
        assert inertia_signs(residual_matrix(C, np.repeat(t, 4), certificate.c))[0]

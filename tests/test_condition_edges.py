"""Statements about one layer where they are easily wrong: cropped images, forged witnesses, extreme ranges, odd geometries."""

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from sdplip.convolution import dense_matrix
from sdplip.errors import InvalidCertificate, NotProvable, SdplipError, UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.kernel.condition import (
    Certificate,
    convolution_holds,
    convolution_lower_bound,
    holds,
    lower_bound,
    nearest_lower_bound,
    residual_holds,
    residual_lower_bound,
    trace_lower_bound,
)
from sdplip.proposals import certify, certify_convolution, certify_residual

CIRCULAR = [  # taps, image, padding, stride: some crop, one has a kernel larger than the image
    ((3,), (3,), 0, 1), ((4, 4), (4, 4), 1, 1), ((3, 3), (6, 4), 0, 1), ((4,), (6,), 1, 1), ((3, 3), (6, 6), 0, 2),
    ((5,), (3,), 1, 1), ((5,), (3,), 2, 1), ((2, 3), (4, 4), (0, 1), 2), ((3,), (6,), 1, 1), ((4,), (5,), None, 1),
]  # fmt: skip


@pytest.mark.parametrize(("taps", "size", "padding", "stride"), CIRCULAR)
@pytest.mark.parametrize("form", ["linear", "residual"])
def test_circular_images_that_are_cropped(taps, size, padding, stride, form):
    """Fewer pixels come out than the circulant has: the wave that it stretches most may not exist."""
    rng = np.random.default_rng(0)
    for K in (np.full((1, 1, *taps), 0.5), rng.normal(size=(3, 2, *taps))):
        geometry = Geometry(stride, "circular", padding, image_size=size)
        C, t = dense_matrix(K, geometry), np.ones(K.shape[0 if form == "residual" else 1])
        truth = float(np.linalg.norm(C, 2))
        found = certify_convolution(K, t, geometry, form=form)
        assert found.c_lower <= truth * (1 + 1e-12) and truth <= found.c * (1 + 1e-12)
        assert found.c_lower >= 0.99 * truth
        assert convolution_holds(K, found) and convolution_lower_bound(K, found) >= found.c_lower


SMALL = [  # taps, image, geometry: all that a dense matrix may be
    ((3,), (3,), Geometry(1, "circular", 0)), ((4, 4), (5, 5), Geometry(1, "circular", 1)), ((3, 3), (6, 4), Geometry(2, "zeros", (1, 0))),
    ((2, 3), (4, 5), Geometry(1, "zeros", None, 2)), ((4,), (9,), Geometry(2, "zeros", 5, 1, 2)), ((2, 2, 2), (3, 2, 4), Geometry(1, "zeros", 0)),
]  # fmt: skip


@pytest.mark.parametrize(("taps", "size", "geometry"), SMALL)
@pytest.mark.parametrize("form", ["linear", "residual"])
def test_dense_matrices_of_small_images(taps, size, geometry, form):
    rng = np.random.default_rng(1)
    geometry = replace(geometry, image_size=size)
    K = rng.normal(size=(4, 2 // geometry.groups, *taps))
    t = rng.uniform(0.5, 2, 4 if form == "residual" else 2)
    C = dense_matrix(K, geometry)
    r = np.repeat(t, C.shape[0 if form == "residual" else 1] // len(t)) ** -0.5
    truth = float(np.linalg.norm(r[:, None] * C if form == "residual" else C * r, 2))
    found = certify_convolution(K, t, geometry, form=form, dense=True)
    assert found.grid == ()
    assert truth * (1 - 1e-10) <= found.c_lower <= truth * (1 + 1e-14) and truth <= found.c <= truth * (
        1 + 1e-10
    )
    assert convolution_holds(K, found) and convolution_lower_bound(K, found) >= found.c_lower
    assert not convolution_holds(K, replace(found, c=found.c * 0.999))
    with suppress(SdplipError):  # an empty grid proves nothing about every size
        assert not convolution_holds(K, replace(found, geometry=replace(geometry, image_size=None)))


def test_the_three_pixels_of_the_review():
    found = certify_convolution(
        np.full((1, 1, 3), 0.5), np.ones(1), Geometry(1, "circular", 0, image_size=(3,)), dense=True
    )
    assert found.c == pytest.approx(0.8660254037844388, rel=1e-12)
    found = certify_convolution(
        np.full((1, 1, 3), 0.5), np.ones(1), Geometry(1, "circular", 0, image_size=(3,))
    )
    assert 0.86 < found.c_lower <= 0.8660254037844388 <= found.c
    found = certify_convolution(
        np.full((1, 1, 4, 4), 0.06), np.ones(1), Geometry(1, "circular", 1, image_size=(4, 4))
    )
    assert 0.71 < found.c_lower <= 0.7200000000000001 <= found.c


def test_waves_are_no_witness_of_images_that_are_cropped_or_padded_with_zeros():
    K = np.ones((1, 1, 3, 3))
    wave = np.array([1.0, 0.0])
    for geometry in (Geometry(image_size=(1, 1)), Geometry(1, "circular", 0, image_size=(3, 3))):
        honest = certify_convolution(K, np.ones(1), geometry)
        forged = replace(honest, c_lower=8.99, witness=wave, frequency=(0, 0, 0))
        with pytest.raises(InvalidCertificate):
            convolution_lower_bound(K, forged)
    every = certify_convolution(K, np.ones(1))
    assert every.c_lower == pytest.approx(9, rel=1e-9)
    moved = replace(every, geometry=Geometry(1, "circular", image_size=(4, 4)))
    with pytest.raises(InvalidCertificate):  # frequencies of another lattice than the images have
        convolution_lower_bound(K, moved)
    with pytest.raises(SdplipError):  # an image where a wave is asked for
        convolution_lower_bound(K, replace(every, frequency=None))


FORGED = [np.array([9e153, 9e153]), np.array([[0.0, 1], [0, 0]]), np.ones(3), np.array([np.inf, 1]), np.array([np.nan, 1]),
          np.array(["a", "b"]), np.ones(2) * 1j, np.array([5e-324, 0]), np.zeros(2), np.array([1e308, 1e308])]  # fmt: skip


@pytest.mark.parametrize("witness", FORGED)
@pytest.mark.parametrize(("W", "t"), [(np.full((2, 2), 0.24), [1.0, 1]), (np.diag([1, 0.1]), [1.99, 1])])
def test_witnesses_prove_what_is_true_or_nothing(witness, W, t):
    truth = np.linalg.norm(W / np.sqrt(t), 2)
    with suppress(NotProvable):
        assert lower_bound(W, np.array(t), witness) <= truth * (1 + 1e-15)


@pytest.mark.parametrize(
    "witness",
    [*FORGED, np.ones((1, 3, 3)), np.full((1, 4, 4), 1e200), np.full((1, 4, 4), 1e-200), np.ones(16)],
)
def test_images_prove_what_is_true_or_nothing(witness):
    K, geometry = np.ones((1, 1, 3, 3)), Geometry(image_size=(4, 4))
    truth = np.linalg.norm(dense_matrix(K, geometry), 2)
    forged = Certificate(np.ones(1), 9.0, 9.0, witness, geometry=geometry, grid=(6, 6))
    with suppress(NotProvable, InvalidCertificate):
        assert convolution_lower_bound(K, forged) <= truth * (1 + 1e-15)


@pytest.mark.parametrize(
    "frequency",
    [(), (0,), (0, 1), (0, 1, 2, 3), (9, 0, 0), (0, 16.0, 1), ("a", 0, 0), (0, 10**30, 1), (None,)],
)
def test_frequencies_are_checked(frequency):
    K = np.random.default_rng(0).normal(size=(2, 2, 3, 3))
    honest = certify_convolution(K, np.ones(2))
    try:
        found = convolution_lower_bound(K, replace(honest, frequency=frequency))
    except (InvalidCertificate, NotProvable):
        return
    assert found <= honest.c


def test_c_lower_never_exceeds_c_and_is_proven_again_without_slack():
    rng = np.random.default_rng(1)
    for _ in range(60):
        W = rng.normal(size=rng.integers(1, 30, 2)) * 10.0 ** rng.uniform(-200, 200)
        found = certify(W, np.ones(W.shape[1]))
        assert found.c_lower <= found.c
        assert lower_bound(W, found.t, found.witness) >= found.c_lower


@pytest.mark.parametrize("exponent", [-1074, -1060, -800, -540, -500, 0, 500, 900])
def test_matrices_of_every_size(exponent):
    """No messages of LAPACK, no hang, the bound above the norm. Only subnormal norms are loose."""
    W = np.ldexp(np.array([[3.0, 0], [4, 5]]), exponent)
    found = certify(W, np.ones(2))
    exact = Fraction(45) * Fraction(2) ** (2 * exponent) if exponent > -1060 else None
    if exact is not None:
        assert Fraction(found.c_lower) ** 2 <= exact <= Fraction(found.c) ** 2
        assert found.c <= found.c_lower * (1 + 1e-12)
    assert 0 <= found.c_lower <= found.c <= max(7 * 2.0**exponent, 2.0**-1021)
    assert holds(W, np.ones(2), found.c) and not holds(
        W, np.ones(2), found.c / 2 if exponent > -1000 else 0.0
    )


def test_denormals_as_zero():
    """A processor that reads subnormal numbers as zero must not change what is proven."""
    torch = pytest.importorskip("torch")
    W = np.array([[1e-40, 0]], np.float32)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor knows no such mode")
    try:
        found = certify(np.array([[1e-300, 1e-310]]), np.array([1, 1e-322]))
        single = certify(W, np.ones(2))
        kernel = certify_convolution(np.array([[[1e-310]]]), np.array([1e-322]))
        small = certify(np.array([[1e-310]]), np.ones(1))
    finally:
        torch.set_flush_denormal(False)
    exact = Fraction(1e-300) ** 2 + Fraction(1e-310) ** 2 / Fraction(1e-322)
    assert Fraction(found.c_lower) ** 2 <= exact <= Fraction(found.c) ** 2
    assert found.c == pytest.approx(1.006e-149, rel=1e-3)
    assert kernel.c == pytest.approx(1.006e-149, rel=1e-3)
    assert single.c == pytest.approx(float(np.float32(1e-40)), rel=1e-9)
    assert 1e-310 <= small.c <= 2.0**-1021


def test_residual_inequalities_that_underflow():
    H, G, W = np.zeros((1, 1)), np.array([[2.0**-300]]), np.array([[2.0**-450 * (1 + 2.0**-26)]])
    slopes, multipliers = (0.0, 2.0**500), np.array([2.0**-600])
    found = certify_residual(H, G, W, multipliers, slopes)
    exact = Fraction(2) ** -500 * (1 + Fraction(2) ** -26) ** 2
    assert exact <= Fraction(found.gamma) <= exact * (1 + Fraction(1, 10**6))
    assert not residual_holds(H, G, W, multipliers, 3.054936363e-151, slopes)
    Y = np.array([[1.0], [2.0**-451]])
    for scale in (1e-250, 1e-100, 1.0, 1e100):
        assert Fraction(residual_lower_bound(H, G, W, Y * scale, slopes)) <= exact


def test_duals_that_underflow():
    W, weight = np.array([[1.0077e75]]), np.array([1e-308])
    exact = Fraction(1e-308) * Fraction(1.0077e75) ** 4
    for y in np.geomspace(1e-170, 1e-70, 60):
        assert Fraction(nearest_lower_bound(W, np.array([[y]]), np.zeros(1), weight)) <= exact
    for cost in (1e-320, 1e-300, 1e-150, 1.0, 1e150, 1e300):
        for scale in (1e-100, 1.0, 1e100):
            found = trace_lower_bound(np.array([[3.0, 4.0]]), np.full((2, 1), scale), np.full(2, cost))
            assert Fraction(found) <= 49 * Fraction(cost)  # (|w_1| + |w_2|)^2 cost


def test_images_without_an_output_pixel_are_refused():
    K = np.ones((2, 2, 3, 3))
    for mode in ("zeros", "circular"):
        with pytest.raises(UnsupportedConvolution, match="No output pixel"):
            certify_convolution(K, np.ones(2), Geometry(1, mode, 0, image_size=(2, 2)))


@pytest.mark.parametrize(
    "grid", [(4001, 4003), (2**63, 128), (-4, 8), (8.0, 8), (True, 8), (10**30, 10**30), (4,), (4098, 4098)]
)
def test_grids_that_would_take_forever_are_refused(grid):
    K = np.random.default_rng(0).normal(size=(2, 2, 3, 3))
    honest = certify_convolution(K, np.ones(2))
    with pytest.raises(SdplipError):
        convolution_holds(K, replace(honest, grid=grid))


def test_large_images_are_covered_by_cells():
    K = np.random.default_rng(0).normal(size=(2, 2, 3))
    found = certify_convolution(K, np.ones(2), Geometry(image_size=(100_000,)))
    every = certify_convolution(K, np.ones(2))
    assert found.c == pytest.approx(every.c, rel=1e-6) and convolution_holds(K, found)


@pytest.mark.filterwarnings("error")
def test_lower_sides_beyond_the_range_are_quiet():
    """c above the largest double: the lower side is that, without a warning; an upper side is not proven."""
    W, t = np.full((3, 3), 1.5e308), np.ones(3)
    assert lower_bound(W, t, np.ones(3)) == np.finfo(float).max
    assert not holds(W, t, 1e308)
    K = np.full((4, 2, 3), 1.2e308)
    for geometry in (
        Geometry(image_size=(5,), padding=1),
        Geometry(image_size=(6,), padding_mode="circular"),
    ):
        wave = geometry.padding_mode == "circular"
        witness = np.ones(4) if wave else np.ones((2, 5))
        given = Certificate(
            np.ones(2),
            1e308,
            0.0,
            witness,
            "linear",
            "given",
            geometry,
            (6,) if wave else (),
            (0, 0) if wave else None,
        )
        assert convolution_lower_bound(K, given) == np.finfo(float).max
        assert not convolution_holds(K, given)

"""The banded inequality: it is the dense one, entry for entry; what it proves is true; its optimum is that of LipSDP-Neuron."""

from fractions import Fraction

import numpy as np
import pytest
from sdplip.bounds.banded import Barrier, best_multipliers
from sdplip.certificates.arrow import Arrow, factor, holds
from sdplip.certificates.strip import Layer, Placed, Strip, strip_holds
from sdplip.networks import Activation, Affine, Convolution, MaxPool, Network

from sdplip.bounds import banded, bound
from sdplip.errors import InvalidProblem
from sdplip.geometry import Geometry
from tests.exact import inertia_signs

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(banded, "GAP", 2e-2)


GEOMETRIES = {
    "same": {"taps": (3, 3)},
    "stride": {"taps": (3, 2), "stride": 2, "padding": 1},
    "dilation and groups": {"taps": (3, 3), "padding": 0, "dilation": 2, "groups": 2},
    "tall": {"taps": (5, 1), "stride": (1, 2), "padding": (2, 0)},
    "even": {"taps": (2, 2)},
}


def layer(rng, channels: tuple[int, int], image: tuple[int, ...], taps: tuple[int, ...], **geometry) -> Layer:
    K = rng.normal(size=(channels[1], channels[0] // geometry.get("groups", 1), *taps))
    return Layer(K, Geometry(image_size=image, **geometry).expand(K.shape))


def convolution(layer: Layer) -> Convolution:
    return Convolution(layer.K, layer.geometry)


def network(strip: Strip, *tail) -> Network:
    layers = []
    for one, beta in zip(strip.layers, strip.slopes, strict=True):
        layers += [convolution(one), Activation(0.0, beta)]
    last = Affine(strip.head) if strip.last is None else convolution(strip.last)
    return Network((*layers, last, *tail))


def two_layers(seed: int, geometry: str, *, ends: bool = False) -> Strip:
    rng = np.random.default_rng(seed)
    first = layer(rng, (2, 4), (6, 5), (3, 3))
    second = layer(rng, (4, 4), first.output, **GEOMETRIES[geometry])
    if ends:
        return Strip((first,), (0.9,), last=second)
    return Strip((first, second), (1.0, 0.9), head=rng.normal(size=(3, convolution(second).outputs)))


def dense(strip: Strip, lams, R: np.ndarray) -> np.ndarray:
    """The matrix as the docstring of `strip` has it, from unrolled convolutions."""
    Ws = [convolution(one).matrix() for one in strip.every]
    F = Ws.pop() if strip.head is None else strip.head
    corner = R[0, 0] ** 2 * np.eye(len(F)) if strip.head is None else R @ R.T
    at = np.cumsum([0, Ws[0].shape[1], *map(len, Ws), len(F)])
    M = np.zeros((at[-1], at[-1]))
    M[: at[1], : at[1]] = np.eye(at[1])
    for k, (W, lam, beta) in enumerate(zip(Ws, lams, strip.slopes, strict=True), 1):
        here, before = slice(at[k], at[k + 1]), slice(at[k - 1], at[k])
        M[here, here] = np.diag(2 * lam)
        M[here, before] = -(beta * lam)[:, None] * W
        M[before, here] = M[here, before].T
    M[at[-2] :, at[-3] : at[-2]] = F
    M[at[-3] : at[-2], at[-2] :] = F.T
    M[at[-2] :, at[-2] :] = corner
    return M


def unrolled(band: Placed, arrow: Arrow) -> np.ndarray:
    """The arrow as one matrix, in the order of `dense`."""
    at = np.cumsum([0, *band.sizes, len(arrow.corner)])
    full = np.zeros((at[-1], at[-1]))
    for k, (D, F) in enumerate(zip(arrow.diagonal, arrow.border, strict=True)):
        here = slice(at[k], at[k + 1])
        full[here, here], full[at[-2] :, here], full[here, at[-2] :] = D, F, F.T
    for k, B in enumerate(arrow.lower):
        full[at[k + 1] : at[k + 2], at[k] : at[k + 1]] = B
        full[at[k] : at[k + 1], at[k + 1] : at[k + 2]] = B.T
    full[at[-2] :, at[-2] :] = arrow.corner
    order = []
    every = band.strip.every
    images = [(every[0].K.shape[1] * every[0].geometry.groups, every[0].image)]
    images += [(len(one.K), one.output) for one in every]
    for place, (channels, image) in zip(band.place, images, strict=True):
        where = [at[block] + i + np.arange(channels * int(np.prod(image[1:]))) for block, i in place]
        order.append(np.moveaxis(np.reshape(where, (image[0], channels, -1)), 0, 1).reshape(-1))
    order = np.concatenate([*order, np.arange(at[-2], at[-1])])
    return full[np.ix_(order, order)]


@pytest.mark.parametrize("ends", [False, True], ids=["matrix behind", "convolution behind"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_band_is_the_dense_matrix(geometry, ends):
    strip = two_layers(0, geometry, ends=ends)
    rng = np.random.default_rng(1)
    lams = [rng.uniform(0.1, 1, n) for n in strip.neurons()]
    R = np.array([[1.7]]) if ends else np.linalg.cholesky(np.eye(3) + 1)
    band = Placed.of(strip)
    arrow = band.arrow(lams, R)
    np.testing.assert_allclose(unrolled(band, arrow), dense(strip, lams, R), rtol=1e-15, atol=1e-15)
    assert len(band.sizes) > 1


@pytest.mark.parametrize("axes", [1, 3])
def test_images_of_one_and_three_axes(axes):
    rng = np.random.default_rng(axes)
    one = layer(rng, (2, 3), (5, 3, 2)[:axes], (3, 2, 2)[:axes], padding=(1, 1, 0)[:axes])
    strip = Strip((one,), (1.0,), head=rng.normal(size=(2, convolution(one).outputs)))
    lams, band = [rng.uniform(0.1, 1, strip.neurons()[0])], Placed.of(strip)
    np.testing.assert_allclose(
        unrolled(band, band.arrow(lams, np.eye(2))), dense(strip, lams, np.eye(2)), rtol=1e-15, atol=1e-15
    )


@pytest.mark.parametrize("ends", [False, True])
def test_a_proof_ends_where_the_least_eigenvalue_is_zero(ends):
    """R just above the least one is proven, R just below is refused: the kernel loses next to nothing, and never errs."""
    strip = two_layers(3, "stride", ends=ends)
    lams, tau = best_multipliers(Placed.of(strip))
    low, high = 0.0, tau**0.5
    assert strip_holds(strip, lams, high * np.eye(1 if ends else 3))
    for _ in range(60):
        middle = (low + high) / 2
        fine = np.linalg.eigvalsh(dense(strip, lams, middle * np.eye(1 if ends else 3)))[0] >= 0
        low, high = (low, middle) if fine else (middle, high)
    eye = np.eye(1 if ends else 3)
    assert strip_holds(strip, lams, high * (1 + 1e-7) * eye)
    assert not strip_holds(strip, lams, high * (1 - 1e-9) * eye)
    if ends:  # a bound, of which a certificate file may claim anything
        assert not strip_holds(strip, lams, -high * (1 + 1e-7) * eye)
    assert not strip_holds(strip, [5 * v for v in lams], high * (1 + 1e-7) * eye)


def test_no_false_proof_in_exact_arithmetic():
    """Order 9: a yes of the kernel is positive semidefiniteness of the exact matrix, on both sides of the border."""
    rng, said = np.random.default_rng(0), []
    for _ in range(200):
        one = layer(rng, (1, 1), (4,), (3,))
        one = Layer(one.K * 2.0 ** rng.integers(-300, 300), one.geometry)
        strip = Strip((one,), (float(rng.uniform(0.1, 2)),), head=rng.normal(size=(1, 4)))
        norm = np.linalg.norm(convolution(one).matrix(), 2)
        lam = rng.uniform(0.5, 1.2, 4) / (strip.slopes[0] * norm) ** 2
        T = dense(strip, [lam], np.zeros((1, 1)))
        root = np.append(T.diagonal()[:8] ** -0.5, 1.0)
        T = T * root * root[:, None]
        least = T[8, :8] @ np.linalg.solve(T[:8, :8], T[:8, 8])
        R = np.array([[abs(least) ** 0.5 * (1 + rng.choice([-1, 1]) * 10.0 ** rng.uniform(-15, -6))]])
        yes = strip_holds(strip, [lam], R)
        if yes:
            W = convolution(one).matrix()
            M = [[Fraction(0)] * 9 for _ in range(9)]
            for i in range(4):
                M[i][i], M[4 + i][4 + i] = Fraction(1), 2 * Fraction(lam[i])
                for j in range(4):
                    M[4 + i][j] = M[j][4 + i] = (
                        -Fraction(strip.slopes[0]) * Fraction(lam[i]) * Fraction(W[i, j])
                    )
                M[8][4 + i] = M[4 + i][8] = Fraction(strip.head[0, i])
            M[8][8] = Fraction(R[0, 0]) ** 2
            assert inertia_signs(M)[0]
        said.append(yes)
    assert 20 < sum(said) < 180


def test_what_a_factor_claims_is_not_believed():
    """`holds` measures its own residual: an indefinite matrix is refused however it is scaled."""
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(4, 9)) for _ in range(3)]
    lower, border = (0.05 * rng.normal(size=shape) for shape in ((2, 4, 4), (3, 2, 4)))
    good = Arrow([B @ B.T for B in blocks], list(lower), list(border), np.eye(2))
    assert factor(good, 0.0) is not None and holds(good, 1e-15, np.zeros(2))
    assert not holds(good, 0.5, np.zeros(2)) and not holds(good, 1e-15, np.full(2, 2.0))
    good.corner[1, 1] = 1e-3
    assert not holds(good, 1e-15, np.zeros(2))
    good.corner[1, 1] = np.nan
    assert not holds(good, 1e-15, np.zeros(2))


@pytest.mark.parametrize("ends", [False, True])
def test_the_gradient_is_that_of_the_barrier(ends):
    strip = two_layers(5, "stride", ends=ends)
    band = Placed.of(strip)
    barrier, x = Barrier(band, 3.0), banded._start(band)
    step = 1e-5 * np.random.default_rng(0).normal(size=len(x))
    after, before = barrier(x + step), barrier(x - step)
    assert (after.value - before.value) / 2 == pytest.approx(barrier(x).gradient @ step, rel=1e-6)


@pytest.mark.parametrize(
    ("geometry", "ends"), [("same", False), ("stride", True), ("dilation and groups", False)]
)
def test_the_optimum_is_that_of_the_unrolled_network(geometry, ends):
    net = network(two_layers(7, geometry, ends=ends))
    found, best = bound(net, "banded"), bound(net, "lipsdp-neuron")
    assert best.sdp_lower <= found.value <= best.value * 1.01
    assert found.lower <= found.value and found.method == "banded"
    seen = []
    assert bound(net, "banded", progress=lambda *step: seen.append(step)).value == found.value
    assert [k for k, *_ in seen] == list(range(1, len(seen) + 1)) and all(low <= up for _, up, low in seen)


def test_a_chain_behind_and_maxima_between():
    strip = two_layers(9, "same")
    rng = np.random.default_rng(2)
    deep = network(strip, Activation(0.0, 1.0), Affine(rng.normal(size=(4, 3))))
    assert (
        bound(deep, "lipsdp-neuron").sdp_lower <= bound(deep, "banded").value <= bound(deep, "product").value
    )
    first = convolution(strip.layers[0])
    behind = convolution(layer(rng, (4, 2), (3, 2), (2, 2)))
    pool = MaxPool(4, (6, 5), (2, 2), (2, 2), (0, 0))
    head = Affine(rng.normal(size=(2, behind.outputs)))
    pooled = Network((first, Activation(0.0, 1.0), pool, behind, Activation(0.0, 1.0), head))
    found = bound(pooled, "banded")
    assert [proof.kind for proof in found.parts] == ["strip", "strip"]
    assert bound(pooled, "product").value >= found.value >= found.lower


def test_what_it_cannot_take_is_said(monkeypatch):
    rng = np.random.default_rng(0)
    one = layer(rng, (1, 2), (4, 4), (3, 3))
    head = rng.normal(size=(2, 32))
    circular = Convolution(one.K, Geometry(padding_mode="circular", image_size=(4, 4)))
    for start, slopes in (
        (circular, (0.0, 1.0)),
        (convolution(one), (-0.1, 1.0)),
        (Affine(np.eye(32)), (0.0, 1.0)),
    ):
        with pytest.raises(InvalidProblem, match="circular padding"):
            bound(Network((start, Activation(*slopes), Affine(head))), "banded")
    monkeypatch.setattr(banded, "LARGEST", 10)
    with pytest.raises(InvalidProblem, match="would take hours"):
        bound(network(Strip((one,), (1.0,), head=head)), "banded")
    strip = Strip((one,), (1.0,), head=head)
    lams, R = [np.full(32, 1e-3)], np.linalg.norm(head, 2) * 40 * np.eye(2)
    assert strip_holds(strip, lams, R)
    for bad in ([lams[0][1:]], [lams[0] * np.nan], [-lams[0]], []):
        assert not strip_holds(strip, bad, R)
    assert not strip_holds(strip, lams, R[:1, :1]) and not strip_holds(strip, lams, np.full((2, 2), np.inf))
    assert not strip_holds(Strip((one,), (-1.0,), head=head), lams, R)

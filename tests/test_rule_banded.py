"""Rule `banded`: LipSDP of the unrolled network on a band; no less is proven, data are checked."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from sdplip.arithmetic.matrix import Enclosure
from sdplip.bounds.choose import bound
from sdplip.bounds.methods import METHODS, banded
from sdplip.bounds.numerics import band
from sdplip.bounds.numerics.band import Barrier, best_multipliers
from sdplip.bounds.task import Task
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.rules.banded import with_last
from sdplip.kernel.strip import Band, Placed, Strip, between_rows, tap_rows
from sdplip.network import Activation, Convolution, Dense, Maximum, chain, pooling_windows
from tests.exact import inertia_signs

pytestmark = pytest.mark.usefixtures("one_thread")


def layers(rng, stride=(1, 1), groups=1):
    first = Convolution(rng.normal(size=(2, 1, 3, 3)), (5, 4), (1, 1), ((1, 1), (1, 1)), (1, 1))
    second = Convolution(
        rng.normal(size=(2, 2 // groups, 3, 2)), (5, 4), stride, ((1, 0), (0, 1)), (1, 1), groups
    )
    return [first, Activation("relu", first.outputs), second]


def networks():
    rng = np.random.default_rng(0)
    strided = layers(rng, (2, 2))
    return {
        "last": chain(layers(rng)),
        "strided": chain(strided),
        "groups": chain(layers(rng, groups=2)),
        "head": chain([*strided, Activation("tanh", strided[-1].outputs), Dense(rng.normal(size=(3, strided[-1].outputs)))]),
        "tail": chain([*strided[:2], Dense(rng.normal(size=(4, strided[1].outputs))), Activation("relu", 4), Dense(rng.normal(size=(2, 4)))]),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(networks()))
def test_the_optimum_of_the_unrolled_network(name):
    network = networks()[name]
    (found,) = METHODS["banded"].propose(Task(network))
    assert conclude(Goal(network), found.proof) == found.bound
    whole = bound(network, "lipsdp-neuron")
    assert whole.bound * (1 - 1e-6) <= found.bound
    if name != "tail":  # there the joint proof is cut in two
        assert (
            found.bound <= whole.bound * 1.005
        )  # the search ends at a gap of 1e-3 of the square, or earlier
    assert found.bound >= whole.lower
    data = dict(found.proof.data)
    key = "c" if "c" in data else "R"
    with pytest.raises(NotProvable):
        conclude(
            Goal(network),
            replace(
                found.proof,
                data={**data, key: np.asarray(data[key]) * 0.99 if key == "R" else data[key] * 0.99},
            ),
        )


def test_rows_of_a_convolution_are_those_of_its_matrix():
    for op in (networks()["strided"].nodes[2].op, networks()["groups"].nodes[2].op):
        assert isinstance(op, Convolution)
        W = np.zeros((len(op.K), *op.output_size, op.channels, *op.image_size))
        blocks = between_rows(op)
        for r, at, tap in tap_rows(op):
            W[:, r, :, :, at] += blocks[tap].reshape(
                len(op.K), op.output_size[1], op.channels, op.image_size[1]
            )
        assert (W.reshape(op.outputs, op.inputs) == op.dense()).all()


@pytest.mark.parametrize(
    "change",
    [
        {"multipliers": []},
        {"multipliers": [[1.0]]},
        {"multipliers": "x"},
        {"c": -1.0},
        {"c": 0.0},
        {"c": float("inf")},
        {"multipliers": [[float("nan")] * 40]},
        {"multipliers": [[0.0] * 40]},
        {"multipliers": [[-1.0] * 40]},
        {"multipliers": [[1e200] * 40]},
    ],
)
def test_data_are_checked(change):
    network = networks()["last"]
    (found,) = METHODS["banded"].propose(Task(network))
    with pytest.raises(NotProvable):
        conclude(Goal(network), replace(found.proof, data={**found.proof.data, **change}))


def test_what_is_no_strip():
    rng = np.random.default_rng(1)
    circular = Convolution(rng.normal(size=(2, 1, 3)), (6,), (1,), ((1, 1),), (1,), 1, True)
    for ops in (
        [Dense(np.eye(3)), Activation("relu", 3), Dense(np.eye(3))],
        [circular, Activation("relu", 12), Dense(np.ones((1, 12)))],
    ):
        assert METHODS["banded"].unfit(chain(ops)) is not None  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- the band and its matrix

GEOMETRIES = {
    "same": {"taps": (3, 3)},
    "stride": {"taps": (3, 2), "stride": 2, "padding": 1},
    "dilation and groups": {"taps": (3, 3), "padding": 0, "dilation": 2, "groups": 2},
    "tall": {"taps": (5, 1), "stride": (1, 2), "padding": (2, 0)},
    "even": {"taps": (2, 2)},
}


def layer(rng, channels, image, taps, *, stride=1, padding=None, dilation=1, groups=1) -> Convolution:
    n = len(image)
    stride, dilation = (tuple(np.broadcast_to(v, n).tolist()) for v in (stride, dilation))
    reach = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
    pads = tuple((r // 2, r - r // 2) for r in reach)
    if padding is not None:
        pads = tuple((v, v) for v in np.broadcast_to(padding, n).tolist())
    K = rng.normal(size=(channels[1], channels[0] // groups, *taps))
    return Convolution(K, image, stride, pads, dilation, groups)


def slope(n: int, beta: float) -> Activation:
    return Activation("", n, alpha=np.zeros(n), beta=np.full(n, beta))


def two_layers(seed: int, geometry: str, *, ends: bool = False) -> Strip:
    rng = np.random.default_rng(seed)
    first = layer(rng, (2, 4), (6, 5), (3, 3))
    second = layer(rng, (4, 4), first.output_size, **GEOMETRIES[geometry])
    if ends:
        return Strip((first,), (0.9,), last=second)
    return Strip((first, second), (1.0, 0.9), head=Enclosure.exact(rng.normal(size=(3, second.outputs))))


def network_of(strip: Strip):
    ops = []
    for one, beta in zip(strip.layers, strip.slopes, strict=True):
        ops += [one, slope(one.outputs, beta)]
    return chain([*ops, Dense(strip.head.mid) if strip.last is None else strip.last])


def dense(strip: Strip, lams, R: np.ndarray) -> np.ndarray:
    """The matrix as the docstring of `strip` has it, from unrolled convolutions."""
    Ws = [one.dense() for one in strip.every]
    F = Ws.pop() if strip.head is None else strip.head.mid
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


def unrolled(placed: Placed, found: Band) -> np.ndarray:
    """The band as one matrix, in the order of `dense`."""
    at = np.cumsum([0, *placed.sizes, len(found.corner)])
    full = np.zeros((at[-1], at[-1]))
    for k, (D, F) in enumerate(zip(found.diagonal, found.border, strict=True)):
        here = slice(at[k], at[k + 1])
        full[here, here], full[at[-2] :, here], full[here, at[-2] :] = D, F, F.T
    for k, B in enumerate(found.lower):
        full[at[k + 1] : at[k + 2], at[k] : at[k + 1]] = B
        full[at[k] : at[k + 1], at[k + 1] : at[k + 2]] = B.T
    full[at[-2] :, at[-2] :] = found.corner
    order, every = [], placed.strip.every
    images = [(every[0].channels, every[0].image_size)] + [(len(one.K), one.output_size) for one in every]
    for place, (channels, image) in zip(placed.place, images, strict=True):
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
    placed = Placed.of(strip)
    exact = dense(strip, lams, R)
    found = placed.matrix(lams, R @ R.T)
    np.testing.assert_allclose(unrolled(placed, found), exact, rtol=1e-15, atol=1e-15)
    assert len(placed.sizes) > 1
    inside = placed.enclosed(lams, R)
    for one in (*inside.diagonal, *inside.lower):
        assert (one.radius() <= 20 * 2.0**-53 * abs(one.mid)).all()


@pytest.mark.parametrize("axes", [1, 3])
def test_images_of_one_and_three_axes(axes):
    rng = np.random.default_rng(axes)
    one = layer(rng, (2, 3), (5, 3, 2)[:axes], (3, 2, 2)[:axes], padding=(1, 1, 0)[:axes])
    strip = Strip((one,), (1.0,), head=Enclosure.exact(rng.normal(size=(2, one.outputs))))
    lams, placed = [rng.uniform(0.1, 1, strip.neurons()[0])], Placed.of(strip)
    found = unrolled(placed, placed.matrix(lams, np.eye(2)))
    np.testing.assert_allclose(found, dense(strip, lams, np.eye(2)), rtol=1e-15, atol=1e-15)


def test_a_proof_ends_where_the_least_eigenvalue_is_zero(monkeypatch):
    """c just above the least one is proven, c just below is refused: the kernel loses next to nothing, and never errs."""
    monkeypatch.setattr(band, "GAP", 0.1)
    strip = two_layers(3, "stride", ends=True)
    network = network_of(strip)
    lams, tau = best_multipliers(Placed.of(strip), Task(network))
    low, high = 0.0, tau**0.5
    for _ in range(60):
        middle = (low + high) / 2
        fine = np.linalg.eigvalsh(dense(strip, lams, np.array([[middle]])))[0] >= 0
        low, high = (low, middle) if fine else (middle, high)
    proof = lambda c, by=1.0: Proof("banded", {"multipliers": [by * v for v in lams], "c": c})  # noqa: E731
    assert conclude(Goal(network), proof(high * (1 + 1e-7))) == high * (1 + 1e-7)
    for bad in (proof(high * (1 - 1e-9)), proof(-high * (1 + 1e-7)), proof(high * (1 + 1e-7), 5.0)):
        with pytest.raises(NotProvable):
            conclude(Goal(network), bad)


def test_no_false_proof_in_exact_arithmetic():
    """Order 12: a yes of the kernel is positive semidefiniteness of the exact matrix, on both sides of the border."""
    rng, said = np.random.default_rng(0), []
    for _ in range(100):
        first, last = layer(rng, (1, 1), (4,), (3,)), layer(rng, (1, 1), (4,), (2,))
        first = replace(first, K=first.K * 2.0 ** rng.integers(-150, 150))
        beta = float(rng.uniform(0.1, 2))
        strip = Strip((first,), (beta,), last=last)
        lam = rng.uniform(0.5, 1.2, 4) / (beta * np.linalg.norm(first.dense(), 2)) ** 2
        T = dense(strip, [lam], np.zeros((1, 1)))
        root = np.append(T.diagonal()[:8] ** -0.5, np.ones(4))
        T = T * root * root[:, None]
        least = np.linalg.eigvalsh(T[8:, :8] @ np.linalg.solve(T[:8, :8], T[:8, 8:]))[-1]
        if least <= 0:
            continue
        c = float(least**0.5 * (1 + rng.choice([-1, 1]) * 10.0 ** rng.uniform(-15, -6)))
        network = network_of(strip)
        try:
            conclude(Goal(network), Proof("banded", {"multipliers": [lam], "c": c}))
        except NotProvable:
            said.append(False)
            continue
        said.append(True)
        W, V = first.dense(), last.dense()
        M = [[Fraction(0)] * 12 for _ in range(12)]
        for i in range(4):
            M[i][i], M[4 + i][4 + i], M[8 + i][8 + i] = Fraction(1), 2 * Fraction(lam[i]), Fraction(c) ** 2
            for j in range(4):
                M[4 + i][j] = M[j][4 + i] = -Fraction(beta) * Fraction(lam[i]) * Fraction(W[i, j])
                M[8 + i][4 + j] = M[4 + j][8 + i] = Fraction(V[i, j])
        assert inertia_signs(M)[0]
    assert 10 < sum(said) < 90


@pytest.mark.parametrize("ends", [False, True])
def test_the_gradient_is_that_of_the_barrier(ends):
    placed = Placed.of(two_layers(5, "stride", ends=ends))
    barrier, x = Barrier(placed, 3.0), band._start(placed)
    step = 1e-5 * np.random.default_rng(0).normal(size=len(x))
    after, before = barrier(x + step), barrier(x - step)
    assert (after.value - before.value) / 2 == pytest.approx(barrier(x).gradient @ step, rel=1e-6)


def test_progress_is_reported_and_changes_nothing(monkeypatch):
    monkeypatch.setattr(band, "GAP", 0.1)
    network, seen = networks()["last"], []
    found = bound(network, "banded")
    assert bound(network, "banded", progress=lambda *step: seen.append(step)).value == found.value
    assert [k for k, *_ in seen] == list(range(1, len(seen) + 1)) and all(low <= up for _, up, low in seen)
    assert found.lower <= found.value and found.method == "banded"


def test_maxima_are_cut(monkeypatch):
    monkeypatch.setattr(band, "GAP", 0.1)
    rng = np.random.default_rng(2)
    first = layer(rng, (2, 4), (6, 5), (3, 3))
    index = pooling_windows(4, (6, 5), (2, 2), (2, 2), ((0, 0),) * 2)
    behind = layer(rng, (4, 2), (3, 2), (2, 2))
    pooled = chain([
        first, slope(first.outputs, 1.0), Maximum(index, first.outputs), behind, slope(behind.outputs, 1.0),
        Dense(rng.normal(size=(2, behind.outputs))),
    ])  # fmt: skip
    found = bound(pooled, "banded")
    assert conclude(found.goal, found.proof) == found.bound
    assert bound(pooled, "product").value >= found.value >= found.lower


def test_what_it_cannot_take_is_said(monkeypatch):
    strip = two_layers(0, "same", ends=True)
    network = network_of(strip)
    assert with_last(network).last is network.nodes[-1].op
    low = chain(
        [network.nodes[0].op, Activation("leaky_relu", 120, {"negative_slope": -0.1}), network.nodes[2].op]
    )
    with pytest.raises(InvalidProblem, match="circular padding"):
        bound(low, "banded")
    monkeypatch.setattr(banded, "LARGEST", 10)
    with pytest.raises(InvalidProblem, match="would take hours"):
        bound(network, "banded")

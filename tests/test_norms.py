"""Norms of linear nodes and what proves them: above dense norms, exact where there is a closed form; cells cover every frequency."""

from fractions import Fraction

import numpy as np
import pytest

from sdplip.arithmetic.matrix import enclose
from sdplip.arithmetic.semidefinite import slack, which
from sdplip.convolution import dense_matrix
from sdplip.errors import NotProvable
from sdplip.geometry import Geometry
from sdplip.kernel.check import conclude
from sdplip.kernel.condition import cells, known
from sdplip.kernel.condition.convolution import statement
from sdplip.kernel.condition.spectrum import spectrum
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.rules.closed import node_factor, root_above
from sdplip.network import (
    Activation,
    Average,
    Convolution,
    Dense,
    Diagonal,
    Gather,
    Maximum,
    Norms,
    OnAxis,
    Scatter,
    Sort,
    Transposed,
    chain,
    pooling_windows,
)
from sdplip.proposals import certify_convolution
from sdplip.proposals import norm as proposals
from sdplip.proposals.norm import propose_norm
from sdplip.proposals.peaks import near

rng = np.random.default_rng(0)
WINDOWS = pooling_windows(2, (6, 5), (2, 2), (2, 2), ((0, 0), (0, 0)))
OVERLAP = pooling_windows(1, (6, 6), (3, 3), (2, 2), ((1, 1), (1, 1)))
KERNEL = rng.normal(size=(4, 2, 3, 3))


def convolution(**fields) -> Convolution:
    given = {"image_size": (6, 7), "stride": (1, 1), "pads": ((1, 1), (1, 1)), "dilation": (1, 1)} | fields
    return Convolution(rng.normal(size=(4, 4 // given.get("groups", 1), 3, 3)), **given)


OPERATORS = [
    Dense(rng.normal(size=(5, 8))), Dense(np.zeros((2, 3))), Dense(rng.normal(size=(8, 5)) * 1e-170), Dense(np.full((3, 3), 1e160)),
    OnAxis(rng.normal(size=(3, 4)), 2, 5), Transposed(Dense(rng.normal(size=(5, 8)))), Diagonal(rng.normal(size=6)),
    Gather(np.array([0, 2, 2, -1, 2]), 4), Scatter(np.array([1, 1, 0, -1]), 3), Gather(np.array([-1, -1]), 2),
    Average(WINDOWS, np.full(len(WINDOWS), 4.0), 60), Average(OVERLAP, (OVERLAP >= 0).sum(1) * 1.0, 36),
    Transposed(Average(OVERLAP, np.full(len(OVERLAP), 9.0), 36)),
    convolution(), convolution(pads=((0, 0), (2, 0))), convolution(stride=(2, 1)), convolution(dilation=(2, 1), groups=2),
    convolution(pads=((1, 1), (1, 1)), circular=True, image_size=(6, 8), stride=(2, 2)), convolution(pads=((1, 0), (0, 1)), circular=True),
    Transposed(convolution(stride=(2, 2))), Convolution(np.zeros((2, 1, 3)), (5,), (1,), ((1, 1),), (1,)),
    Convolution(rng.normal(size=(3, 2, 4)), (9,), (2,), ((3, 0),), (1,)),
    Convolution(rng.normal(size=(2, 2, 2, 2, 2)), (3, 3, 3), (1,) * 3, ((0, 1),) * 3, (1,) * 3),
]  # fmt: skip


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: type(op).__name__)
def test_norms_are_above_dense_norms(op):
    known.forget()
    found = conclude(Goal(chain([op])), propose_norm(op))
    A = op.dense()
    scale = 2.0 ** np.frexp(abs(A).max())[1] if A.any() else 1.0
    truth = float(np.linalg.norm(A / scale, 2) * scale)
    assert (
        truth * (1 - 1e-13)
        <= found
        <= truth * (1 + (0.5 if isinstance(op, Convolution | Average | Transposed) else 1e-12))
    )
    if A.any():
        with pytest.raises(NotProvable):
            conclude(
                Goal(chain([op, op]) if op.inputs == op.outputs else chain([op])),
                Proof("norm", {"c": truth * 0.99, "merged": True}),
            )


@pytest.mark.parametrize("op", [op for op in OPERATORS if isinstance(op, Convolution) and op.K.any()])
@pytest.mark.parametrize("frequencies", [0, 10**9])
def test_convolutions_by_frequencies(op, frequencies, monkeypatch):
    """Of the image size, and of every size, whatever the padding."""
    monkeypatch.setattr(proposals, "SMALL", 0)
    monkeypatch.setattr(proposals, "FREQUENCIES", frequencies)
    proof = propose_norm(op)
    assert proof.data["every_size"] == (frequencies == 0)
    truth = float(np.linalg.norm(op.dense(), 2))
    for _ in range(2):  # remembered, then proven again
        found = conclude(Goal(chain([op])), proof)
        assert truth <= found <= truth * 1.6
        known.forget()


def test_closed_forms():
    assert node_factor(Activation("leaky_relu", 3, {"negative_slope": 0.1})) == 1.0
    assert node_factor(Activation("", 2, {}, np.array([-3.0, 0]), np.array([1.0, 2]))) == 3.0
    assert node_factor(Sort(np.array([[0, 1]]), 3)) == node_factor(Norms(np.array([[0, 1]]), 2)) == 1.0
    assert node_factor(Maximum(WINDOWS, 60)) == 1.0 and node_factor(Maximum(OVERLAP, 36)) == 2.0
    assert node_factor(Average(WINDOWS, np.full(len(WINDOWS), 4.0), 60)) == 0.5
    assert node_factor(Diagonal(np.array([1.0, -2]), error=2.0**-20)) == pytest.approx(
        2 * (1 + 2.0**-20), rel=1e-15
    )
    assert node_factor(Dense(np.full((1, 1), 5e-324))) is None and node_factor(Dense(np.zeros((1, 1)))) == 0.0


@pytest.mark.parametrize("k", [0, 1, 2, 3, 4, 5, 9, 10**6 + 1, 2**53 - 1])
def test_roots_are_rounded_up(k):
    assert Fraction(root_above(k)) ** 2 >= k and Fraction(float(np.nextafter(root_above(k), 0))) ** 2 <= k * (
        1 + Fraction(1, 2**51)
    )


def test_products():
    first, middle, last = (
        Dense(rng.normal(size=(6, 4))),
        Diagonal(rng.normal(size=6), error=1e-6),
        Dense(rng.normal(size=(3, 6))),
    )
    network = chain([first, middle, last])
    truth = np.linalg.norm(last.W @ np.diag(middle.d) @ first.W, 2)
    merged = conclude(Goal(network), propose_norm(network))
    single = Proof("norm", {}, tuple(map(propose_norm, (first, middle, last))))
    assert truth * (1 + 1e-7) <= merged <= truth * (1 + 1e-4)
    assert conclude(Goal(network), single) >= merged
    gathered = chain(
        [
            Gather(np.array([0, 1, 1, 2]), 3),
            Convolution(rng.normal(size=(2, 1, 3)), (4,), (1,), ((0, 0),), (1,)),
        ]
    )
    proof = Proof("norm", {}, tuple(propose_norm(node.op) for node in gathered.nodes))  # type: ignore[arg-type]
    assert conclude(Goal(gathered), proof) >= np.linalg.norm(gathered(np.eye(3)), 2)


FORGED = [{}, {"c": -1.0}, {"c": np.nan}, {"c": "1"}, {"c": 1e400}, {"c": [3.0]}, {"c": 1e-9}, {"c": 0}, {"merged": 1}, {"merged": True},
          {"c": 4.0, "every_size": "yes"}, {"c": 4.0, "every_size": True}, {"c": 4.0, "every_size": True, "grid": [4001, 4003]},
          {"c": 4.0, "every_size": True, "grid": [10**30, 2]}, {"c": 4.0, "every_size": True, "grid": 8}]  # fmt: skip


@pytest.mark.parametrize("data", FORGED)
def test_forged_data_prove_nothing(data):
    known.forget()
    for op in (Dense(np.eye(3) * 5), convolution(), Transposed(convolution())):
        with pytest.raises(NotProvable):
            conclude(Goal(chain([op])), Proof("norm", data))


def test_what_was_proven_is_remembered_and_nothing_smaller():
    known.forget()
    op = convolution()
    proof = propose_norm(op)
    c = conclude(Goal(chain([op])), proof)
    with pytest.raises(NotProvable):
        conclude(Goal(chain([op])), Proof("norm", {**proof.data, "c": c * 0.99}))
    other = Convolution(op.K * (1 + 2.0**-10), op.image_size, op.stride, op.pads, op.dilation)
    with pytest.raises(NotProvable):
        conclude(Goal(chain([other])), proof)


def test_hermitian_matrices_against_exact_eigenvalues():
    """Gaussian integers: Z Z* is exact, and its least eigenvalue is 0 for a wide Z, so minus anything is not semidefinite."""
    for n in (2, 5, 40, 60, 230):
        Z = rng.integers(-3, 4, (n, max(1, n - 1))) + 1j * rng.integers(-3, 4, (n, max(1, n - 1)))
        S = np.stack([Z @ Z.conj().T] * 3)
        size = 2 * slack(n, complex=True) * float(np.trace(S[0]).real)
        shifts = np.array([0.0, -1.0, 3.0]) * size
        S = S + shifts[:, None, None] * np.eye(n)
        assert which(enclose(S, 0.0)).tolist() == [False, False, True]
    bad = np.stack([np.eye(3) + 0j] * 4)
    bad[0, 2, 0], bad[1, 1, 1], bad[2, 2, 1] = np.nan, np.inf, np.inf
    assert which(enclose(bad, 0.0)).tolist() == [False, False, False, True]


DEGREES = [
    ((2, 2), (48, 48)),
    ((1, 3), (32, 64)),
    ((4,), (96,)),
    ((2, 0), (64, 9)),
    ((1, 2, 1), (12, 32, 16)),
    ((0, 0), (1, 1)),
]


@pytest.mark.parametrize(("degrees", "finest"), DEGREES)
def test_cells_cover_every_frequency(degrees, finest):
    """Random frequencies lie in a cell of every level (or its mirror image), within the radius that the share promises."""
    cover = cells.every_frequency(degrees, finest)
    omega = rng.uniform(0, 2 * np.pi, (400, len(degrees)))
    centers = cover.base
    for level, lattice in enumerate(cover.lattices):
        both = np.concatenate([centers, -centers])
        apart = abs(
            (omega[:, None] - 2 * np.pi * both / np.array(lattice) + np.pi) % (2 * np.pi) - np.pi
        ) * np.array(degrees)
        inner, outer = cover.axes, [k for k, d in enumerate(degrees) if d and k not in cover.axes]
        share = (1 + np.cos(np.minimum(np.pi, apart[..., list(inner)].sum(-1)))) / 2
        share *= np.prod((1 + np.cos(np.minimum(np.pi, apart[..., outer]))) / 2, -1)
        assert (share.max(1) >= cover.shares[level] * (1 - 1e-12)).all()
        if level + 1 < len(cover.lattices):
            centers = cover.children(centers)


@pytest.mark.parametrize("shape", [(3, 3, 5), (2, 3, 3, 3), (3, 2, 2, 4), (2, 2, 3, 2, 2)])
@pytest.mark.parametrize("form", ["linear", "residual"])
def test_bounds_of_every_size_hold_at_many_frequencies(shape, form):
    for stride in (1, 2):
        K = rng.normal(size=shape)
        t = rng.uniform(0.5, 2, shape[0] if form == "residual" else shape[1])
        found = certify_convolution(K, t, Geometry(stride), form=form)
        stated = statement(K, t, Geometry(stride), form)
        (symbol,) = stated.symbols
        values = [
            np.linalg.norm(near(symbol, omega) * symbol.d**-0.5, 2) * 2.0**symbol.exponent
            for omega in rng.uniform(0, 2 * np.pi, (300, len(shape) - 2))
        ]
        assert max(values) <= found.c <= found.c_lower * 1.002


def test_both_ways_to_the_gram_matrix_agree(monkeypatch):
    """Through the autocorrelation, and through the symbol where that is too large; of both sides, with and without stride."""
    from sdplip.kernel.condition import spectrum as module

    for shape, stride, form in (
        ((5, 3, 3, 3), 1, "linear"),
        ((3, 5, 3, 3), 2, "linear"),
        ((3, 5, 2, 3), 2, "residual"),
    ):
        K, t = rng.normal(size=shape), rng.uniform(0.5, 2, shape[0] if form == "residual" else shape[1])
        (symbol,) = statement(K, t, Geometry(stride), form).symbols
        points, lattice = rng.integers(0, 16, (5, 2)), (16, 16)
        for rows in (False, True):
            stored = module._spectrum(symbol, rows=rows)
            monkeypatch.setattr(module, "STORED", 0)
            direct = module._spectrum(symbol, rows=rows)
            monkeypatch.undo()
            G, H = -stored.minus_gram(points, lattice), -direct.minus_gram(points, lattice)
            M = np.stack([near(symbol, 2 * np.pi * p / 16) for p in points])
            want = (M / symbol.d) @ M.conj().mT if rows else M.conj().mT @ M
            assert abs(H - want).max() < 1e-12 and abs((G.conj() if rows else G) - want).max() < 1e-12
            assert stored.error > 0 and direct.error > 0 and direct.shifts is None
        assert spectrum(symbol).order == min(symbol.shape)


def test_depthwise_and_wide_strided_kernels_against_dense_matrices():
    for shape, geometry in (
        ((12, 1, 3, 3), Geometry(groups=12)),
        ((3, 8, 3, 3), Geometry(stride=2)),
        ((8, 2, 7), Geometry(3)),
    ):
        K = rng.normal(size=shape)
        every = certify_convolution(K, np.ones(shape[1] * geometry.groups), geometry)
        size = (12,) * (len(shape) - 2)
        C = dense_matrix(K, Geometry(geometry.stride, "circular", None, 1, geometry.groups, size))
        assert np.linalg.norm(C, 2) <= every.c <= every.c_lower * 1.001

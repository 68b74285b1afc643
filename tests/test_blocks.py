"""The linear algebra of deep chains against the same with all entries of every matrix."""

from itertools import accumulate, pairwise

import numpy as np
import pytest
import torch

from sdplip.bounds.choose import bound
from sdplip.bounds.numerics.blocks import Blocks
from sdplip.bounds.numerics.chain import Chain
from sdplip.bounds.numerics.dense import Dense
from sdplip.bounds.numerics.full import Full
from sdplip.bounds.numerics.interior import Iterate, iterates
from sdplip.bounds.numerics.linear import factored, improved
from sdplip.bounds.numerics.lipsdp import LipSDP
from sdplip.bounds.numerics.markov import Band, Markov, completion, farthest
from sdplip.bounds.numerics.whole import Whole, quicker
from sdplip.errors import InvalidProblem, SolverUnavailable
from sdplip.kernel.regions import Ball
from sdplip.network import Maximum, chain, pooling_windows
from sdplip.solvers.solution import Status
from tests.commands import invoke
from tests.nets import mlp

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    ),
]
SHAPES = {"one hidden": (3, 4, 2), "deep": (2, 5, 3, 1, 4, 3, 2), "wide input": (6, 2, 3, 3)}
CLOSE = 1e-11  # sums of a few hundred products of entries of order one to a hundred
generator = np.random.default_rng(5)


def inequalities(widths, alpha):
    """Blocks, the same as a system without structure, and a strictly feasible point."""
    weights = [generator.normal(size=(m, n)) / 3 for n, m in pairwise(widths)]
    N = sum(widths[1:-1])
    low = generator.uniform(-0.2, 0.3, N) if alpha else np.zeros(N)
    high = generator.uniform(0.6, 1.1, N)
    blocks = Blocks([torch.tensor(W) for W in weights], torch.tensor(low), torch.tensor(high))
    y = np.zeros((N, widths[0] + N))
    at = list(accumulate(widths[:-1], initial=0))
    for k, W in enumerate(weights[:-1]):
        y[at[k + 1] - widths[0] : at[k + 2] - widths[0], at[k] : at[k + 1]] = W
    e = np.eye(N, widths[0] + N, widths[0])
    C = np.zeros((widths[0] + N,) * 2)
    C[-widths[-2] :, -widths[-2] :] = weights[-1].T @ weights[-1]
    dense = Dense(
        widths[0], *(torch.tensor(e - slope[:, None] * y) for slope in (low, high)), torch.tensor(C)
    )
    point = torch.full((N + 1,), 1.0, dtype=torch.float64)
    for k, layer in reversed(list(enumerate(blocks.layers(point[1:])))):
        layer.mul_(3.0 ** (len(weights) - k))
    point[0] = 3.0 ** (len(weights) + 3)
    return blocks, dense, point


def entries(M: Markov, sizes) -> torch.Tensor:
    """All entries, by the rule of the class."""
    at = list(accumulate(sizes, initial=0))
    S = torch.zeros(at[-1], at[-1], dtype=torch.float64)
    for k in range(len(sizes)):
        S[at[k] : at[k + 1], at[k] : at[k + 1]] = M.matrix.diagonal[k]
        if k:
            S[at[k] : at[k + 1], : at[k]] = M.down[k - 1] @ S[at[k - 1] : at[k], : at[k]]
            S[: at[k], at[k] : at[k + 1]] = S[at[k] : at[k + 1], : at[k]].mT
    return S


def band(S: torch.Tensor, sizes) -> Band:
    at = list(accumulate(sizes, initial=0))
    rows = [slice(a, b) for a, b in pairwise(at)]
    return Band(
        [S[r, r] for r in rows],
        [S[b, a] for a, b in pairwise(rows)],
        [S[a, b] for a, b in pairwise(rows)],
    )


def same(a: Band, b: Band) -> None:
    scale = max(float(abs(d).max()) for d in b.diagonal)
    for side in ("diagonal", "lower", "upper"):
        for x, y in zip(getattr(a, side), getattr(b, side), strict=True):
            torch.testing.assert_close(x, y, atol=CLOSE * scale, rtol=CLOSE)


@pytest.fixture(params=[(name, alpha) for name in SHAPES for alpha in (False, True)], ids=str)
def problem(request):
    name, alpha = request.param
    blocks, dense, y = inequalities(SHAPES[name], alpha)
    factor, full = blocks.factor(y), dense.factor(y)
    assert factor is not None and full is not None
    P, whole = blocks.inverse(y, factor), dense.inverse(y, full)
    assert P is not None
    other = blocks.factor(1.3 * y)
    assert other is not None
    found = blocks.inverse(1.3 * y, other)  # some matrix whose completion is known: itself
    assert found is not None
    X = completion(found.matrix)
    assert X is not None
    return blocks, dense, y, (P, X), (whole, Full(entries(X, blocks.sizes)))


def test_inverse_and_completion(problem):
    blocks, dense, y, (P, X), (whole, _) = problem
    torch.testing.assert_close(entries(P, blocks.sizes), whole.matrix, atol=CLOSE, rtol=1e-9)
    torch.testing.assert_close(
        torch.linalg.inv(entries(X, blocks.sizes)), dense.assemble(1.3 * y), atol=1e-8, rtol=1e-8
    )
    for markov in (P, X):
        S = entries(markov, blocks.sizes)
        at = list(accumulate(blocks.sizes, initial=0))
        for k in range(len(at) - 2):
            torch.testing.assert_close(
                markov.up[k] @ S[at[k + 1] : at[k + 2], at[k + 1] :],
                S[at[k] : at[k + 1], at[k + 1] :],
                atol=CLOSE,
                rtol=1e-9,
            )


def test_products_and_linear_system(problem):
    blocks, dense, _, (P, X), (Pf, Xf) = problem
    dy = torch.tensor(generator.normal(size=len(blocks.alpha) + 1))
    same(blocks.product(P, dy, X), band(dense.product(Pf, dy, Xf), blocks.sizes))
    S = dense.product(Pf, dy, Xf)
    torch.testing.assert_close(blocks.adjoint(band(S, blocks.sizes)), dense.adjoint(S), atol=1e-9, rtol=1e-9)
    assert blocks.objective(X.matrix) == pytest.approx(dense.objective(Xf.matrix), rel=1e-10)
    H = dense.schur(Pf, Xf)
    scale = H.diagonal().rsqrt()
    difference = scale[:, None] * (blocks.schur(P, X) - H.tril()).tril() * scale
    assert float(abs(difference).max()) < CLOSE
    torch.testing.assert_close(H @ dy, dense.adjoint(S), rtol=1e-8, atol=1e-8 * float(abs(H).max()))


def test_all_entries_as_a_chain_or_without_structure(problem):
    blocks, dense, y, (P, _), (Pf, Xf) = problem
    whole, dy = Whole(blocks), torch.tensor(generator.normal(size=len(blocks.alpha) + 1))
    factor = whole.factor(y)
    assert factor is not None
    torch.testing.assert_close(whole.inverse(y, factor).matrix, Pf.matrix, atol=CLOSE, rtol=1e-9)
    same(P.matrix, whole.band(Pf.matrix))
    S = dense.product(Pf, dy, Xf)
    torch.testing.assert_close(whole.product(Pf, dy, Xf), S, atol=CLOSE, rtol=1e-9)
    torch.testing.assert_close(whole.adjoint(S), dense.adjoint(S), atol=1e-9, rtol=1e-9)
    assert whole.objective(Xf.matrix) == pytest.approx(dense.objective(Xf.matrix), rel=1e-10)
    H = dense.schur(Pf, Xf)
    torch.testing.assert_close(
        whole.schur(Pf, Xf).tril(), H.tril(), rtol=1e-9, atol=CLOSE * float(abs(H).max())
    )


@pytest.mark.parametrize(
    ("sizes", "few"),
    [((400, 400), 1), ((500, 500, 200, 50), 1), ((9,) * 5, 0), ((64,) * 64, 0), ((1, 50), 1)],
)
def test_few_blocks_are_held_whole(sizes, few):
    weights = [torch.zeros(m, n, dtype=torch.float64) for n, m in pairwise((*sizes, 2))]
    found = quicker(Blocks(weights, *torch.zeros(2, sum(sizes[1:]), dtype=torch.float64)))
    assert isinstance(found, Whole if few else Blocks)


def test_corrector_tends_to_the_product_with_the_direction(problem):
    """For a short way the change of the completion is linear: on the path of completions it is exact."""
    blocks, dense, _, (P, X), (Pf, Xf) = problem
    dy = torch.tensor(generator.normal(size=len(blocks.alpha) + 1))
    step = X.matrix  # completions scale with the matrix
    bend = blocks.bend(P, dy, X, step, 0.5, blocks.product(P, dy, X))
    same(bend, band(dense.bend(Pf, dy, Xf, Xf.matrix, 0.5, Xf.matrix), blocks.sizes))


def test_reach_ends_at_the_boundary(problem):
    blocks, _, _, (_, X), (_, Xf) = problem
    way = band(-Xf.matrix, blocks.sizes)  # X - c X is positive definite up to c = 1
    assert 0.95 < X.reach(way, 1.5) < 1
    assert 0.95 < Xf.reach(-Xf.matrix, 1.5) <= 1 + 1e-12  # rounding
    assert X.moved(way, 0.5) is not None
    assert completion(X.matrix + 1.5 * way) is None
    assert X.reach(X.matrix, 1.0) == 1.0


def test_farthest():
    assert farthest(lambda c: c <= 0.4, 1.0, digits=20) == pytest.approx(0.4, abs=1e-6)
    assert farthest(lambda _: False, 1.0) == 0.0
    assert farthest(lambda _: True, 0.7) == 0.7


def deep(width, layers):
    """ECLipsE's random networks: norms between 0.8 and 2.5, so that the multipliers spread over many orders of magnitude."""
    rng = np.random.RandomState(77 * width + 9 * layers)
    weights = []
    for n, m in pairwise([5, *[width] * (layers - 1), 2]):
        norm, W = rng.uniform(0.8, 2.5), rng.randn(m, n)
        weights.append(W * (norm / np.linalg.norm(W, 2)))
    return Chain(tuple(weights), tuple((np.zeros(width), np.ones(width)) for _ in range(layers - 1)))


@pytest.mark.parametrize("form", ["neuron", "layer"])
def test_deep_chains_converge(form):
    """Where rounding of the linear system and of the inverse would end the method at a gap of a hundred thousandth."""
    gaps = list[float]()
    proposal = LipSDP(form)(
        deep(10, 24), lambda _, upper, lower: gaps.append((upper - lower) / upper) is None
    )
    assert proposal.status is Status.OPTIMAL
    assert abs(gaps[-1]) < 5e-9  # of the bound; the method stops at 1e-8 of its square


def test_systems_whose_factor_is_inaccurate_are_solved():
    """Conjugate residuals: the factor belongs to a matrix whose least eigenvalues are wrong by a factor of hundreds."""
    n = 20
    Q = torch.linalg.qr(torch.tensor(generator.normal(size=(n, n))))[0]
    values = torch.logspace(0, -12, n, dtype=torch.float64)
    A = Q @ torch.diag(values) @ Q.T
    wrong = Q @ torch.diag(values.clamp_min(1e-9)) @ Q.T
    solve = factored(wrong)
    assert solve is not None
    right, weight = A @ torch.ones(n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    dy, image = improved(lambda v: A @ v, lambda S: S, solve, weight, right)
    assert float(abs(A @ dy - right).sum()) < 1e-10
    torch.testing.assert_close(image, A @ dy, atol=1e-11, rtol=0)
    assert factored(-wrong) is None


def optimum(inequality, y, groups):
    """Least rho, and largest lower value, of the points of the method."""
    points = list[Iterate]()
    for point in iterates(inequality, y, groups):
        points.append(point)
        if abs(point.gap) < 1e-9 or len(points) > 60:
            break
    return min(float(p.y[0]) for p in points), max(p.lower for p in points)


@pytest.mark.parametrize("layers", range(2, 10))
@pytest.mark.parametrize("form", ["neuron", "layer"])
def test_three_diagonals_and_all_entries_have_the_same_optimum(form, layers):
    blocks, dense, y = inequalities((3, *generator.integers(2, 6, layers - 1), 2), alpha=layers % 2 == 1)
    count = torch.tensor([1, *blocks.sizes[1:]])
    groups = torch.repeat_interleave(torch.arange(len(count)), count) if form == "layer" else None
    whole, below = optimum(dense, y, groups)
    for problem in (blocks, Whole(blocks)):
        rho, lower = optimum(problem, y, groups)
        assert rho == pytest.approx(whole, rel=1e-7)
        assert lower == pytest.approx(whole, rel=1e-7)
        assert lower <= whole * (1 + 1e-9)
        assert below <= rho * (1 + 1e-9)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["chain", "slopes", "sorting", "region", "maxima"])
@pytest.mark.parametrize("method", ["lipsdp-neuron", "lipsdp-layer"])
def test_bounds_do_not_depend_on_the_device(method, kind, device):
    weights = [generator.normal(size=(m, n)) / 3 for n, m in pairwise((16, 6, 4, 2))]
    network = mlp(weights, {"slopes": (-0.2, 1.0), "sorting": "groupsort:2"}.get(kind, "relu"))
    if kind == "maxima":
        pool = Maximum(pooling_windows(1, (4, 4), (2, 2), (2, 2), ((0, 0), (0, 0))), 16)
        network = chain([pool, *(node.op for node in mlp([weights[0][:, :4], *weights[1:]]).nodes)])
    ball = Ball(np.zeros(16), 0.1) if kind == "region" else None
    if method == "lipsdp-layer" and kind == "sorting":
        with pytest.raises(InvalidProblem, match="does not take"):
            bound(network, method, region=ball, device=device)
        return
    here = bound(network, method, region=ball)
    there = bound(network, method, region=ball, device=device)
    assert there.value == pytest.approx(here.value, rel=1e-7)
    assert there.status is Status.OPTIMAL or kind == "maxima"  # of one of the parts


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "riccati"}, InvalidProblem, "not for this one"),
        ({"method": "lipsdp-neuron", "output_norm": "linf"}, InvalidProblem, "not for this one"),
        ({"method": "lipsdp-layer"}, SolverUnavailable, "it cannot hold float64"),
    ],
)
def test_devices_are_refused(options, error, message):
    network = mlp([generator.normal(size=(3, 3)), np.ones((2, 3))])
    with pytest.raises(error, match=message):
        bound(network, device="meta", **options)


@pytest.mark.parametrize("method", ["auto", "lipsdp-layer"])
@pytest.mark.parametrize("extra", [(), ("--output-pair", "0,1"), ("--certificate", "proof.json")])
def test_device_at_the_command_line(tmp_path, monkeypatch, method, extra):
    monkeypatch.chdir(tmp_path)
    np.savez("net.npz", a=generator.normal(size=(4, 3)), b=generator.normal(size=(2, 4)))
    code, out, _ = invoke("bound", "net.npz", "--method", method, "--device", "cpu", *extra)
    assert code == 0
    assert "Proven" in out
    for refused in (("--method", "riccati"), ("--compare",), ("--output-norm", "linf"), ("--method", method)):
        code, _, err = invoke("bound", "net.npz", "--device", "meta", *refused)
        assert code == 2
        assert err.strip().startswith(("Error:", "Usage:"))
        assert "Traceback" not in err

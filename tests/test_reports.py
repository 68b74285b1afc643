"""Reports: known numbers, orders that theorems promise, and what `save` writes, for matrices and convolutions."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sdplip import reports
from sdplip.condition import residual
from sdplip.convolution import dense_matrix
from sdplip.errors import InvalidScaling, InvalidWeight, UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.kernel.condition import Verdict
from sdplip.reports.layer import Layer
from sdplip.solvers import CVXPY, Progress, Status
from sdplip.verifier.verify import verify
from sdplip.weights import Weight, read

SCS = CVXPY("SCS")
METHODS = [*reports.methods.CLOSED_FORMS, reports.multi_step(4)]
EXAMPLES = Path(__file__).parents[1] / "examples"


def matrix(m, n, seed=0, dtype=np.float64):
    return Weight("fc.weight", np.random.default_rng(seed).normal(size=(m, n)).astype(dtype))


def kernel(shape, geometry=Geometry(), seed=0):
    return Weight("conv.weight", np.random.default_rng(seed).normal(size=shape), geometry)


WEIGHTS = {
    "square": matrix(6, 6),
    "wide": matrix(4, 9),
    "tall float32": matrix(9, 4, dtype=np.float32),
    "zero column": Weight("fc.weight", matrix(5, 4).array * np.array([1.0, 0.0, 1.0, 1.0])),
    "conv1d": kernel((4, 3, 5)),
    "conv2d": kernel((4, 3, 3, 3), Geometry(image_size=(7, 6))),
    "circular": kernel((3, 3, 3, 3), Geometry(padding_mode="circular", image_size=(6, 6))),
    "strided 1-D, two groups": kernel((4, 2, 5), Geometry(stride=3, groups=2, image_size=(12,))),
    "strided": kernel((3, 2, 3, 3), Geometry(stride=2, image_size=(8, 8))),
    "grouped": kernel((4, 2, 3), Geometry(groups=2, image_size=(9,))),
    "dilated": kernel((2, 2, 3), Geometry(dilation=2, image_size=(12,))),
}


@pytest.mark.parametrize("form", ["linear", "residual"])
@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_closed_forms_satisfy_the_condition(method, weight, form):
    (layer,) = reports.check([weight], method, form=form).layers
    assert layer.verdict is Verdict.SATISFIED
    assert layer.certificate.c_lower <= layer.certificate.c
    assert len(layer.certificate.t) == Layer(weight, form).channels


def test_identity_asks_for_the_spectral_norm():
    weight = Weight("W", np.array([[3.0, 0.0], [4.0, 5.0]]))  # singular values sqrt(45) and sqrt(5)
    (layer,) = reports.check([weight]).layers
    assert layer.certificate.c_lower <= 45**0.5 <= layer.certificate.c
    assert layer.verdict is Verdict.VIOLATED
    assert layer.trace == 2


def test_the_two_forms_read_the_file_the_two_ways():
    W = np.array([[3.0, 4.0, 0.0]])  # one output of three inputs, or one hidden unit on three features
    linear = reports.check([Weight("W", W)], reports.AOL).layers[0]
    hidden = reports.check([Weight("W", W)], reports.AOL, form="residual").layers[0]
    assert linear.certificate.t == pytest.approx([21, 28, 0])
    assert hidden.certificate.t == pytest.approx([25])
    assert linear.certificate.bound == linear.certificate.c
    assert hidden.certificate.bound == pytest.approx(1)


def test_the_epsilon_defect_of_sll_v1_is_found():
    """Published first version: T_i = sum_j |G_ij| q_j / (q_i + eps), with eps only in the denominator. For G = I it is
    q / (q + eps), so c^2 = 1 + eps / q and the residual bound 2 c^2 - 1 is 3 at q = eps, 21 at q = eps / 10."""
    W, eps = np.eye(4), 1e-6
    for q, factor in ((1e-6, 3.0), (1e-7, 21.0)):
        t = np.full(4, q / (q + eps))
        (layer,) = reports.check([Weight("W", W)], reports.given({"W": t}), form="residual").layers
        assert layer.verdict is Verdict.VIOLATED
        assert layer.certificate.bound == pytest.approx(factor, rel=1e-9)  # q + eps is rounded
        x, y = np.full((1, 4), 1.0), np.zeros((1, 4))
        moved = residual(x, W, t, activation=lambda z: np.maximum(z, 0)) - residual(
            y, W, t, activation=lambda z: np.maximum(z, 0)
        )
        assert np.linalg.norm(moved) / np.linalg.norm(x - y) == pytest.approx(factor, rel=1e-9)


def test_gershgorin_uses_q_and_judges_it():
    weight = matrix(5, 3)
    q = np.array([1.0, 2.0, 4.0])
    (layer,) = reports.check([weight], reports.gershgorin({"fc.weight": q})).layers
    G = abs(weight.array.T @ weight.array)
    assert layer.certificate.t == pytest.approx(G @ q / q)
    for bad in (np.array([1.0, 2.0]), np.array([1.0, -2.0, 3.0]), np.array([1.0, np.nan, 3.0])):
        with pytest.raises(InvalidScaling, match="fc"):
            reports.check([weight], reports.gershgorin({"fc.weight": bad}))


def test_vectors_are_found_by_name():
    weight = matrix(5, 3)
    for name in ("fc.weight", "fc.weight.t", ""):
        reports.check([weight], reports.given({name: np.full(3, 50.0)}))
    with pytest.raises(InvalidScaling, match="no `t` is given"):
        reports.check([weight], reports.given({"a": np.ones(3), "b": np.ones(3)}))


def test_errors_name_the_layer():
    with pytest.raises(InvalidWeight, match=r"Layer `fc\.weight`: .*not finite"):
        reports.check([Weight("fc.weight", np.array([[np.nan, 1.0]]))])


def test_scaling_is_exact_under_powers_of_two():
    """Weights of any size: t is homogeneous, so the closed forms neither overflow nor vanish."""
    weight = matrix(4, 5)
    for method in METHODS:
        (one,) = reports.check([weight], method).layers
        (tiny,) = reports.check([replace(weight, array=np.ldexp(weight.array, -400))], method).layers
        assert (tiny.certificate.t == np.ldexp(one.certificate.t, -800)).all()
        assert tiny.certificate.c == one.certificate.c


@pytest.mark.parametrize("form", ["linear", "residual"])
@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
def test_no_scaling_beats_the_proven_lower_value(weight, form):
    report = reports.compare([weight], METHODS, form=form)
    (layer,) = report.layers
    best = layer.best
    assert best.trace_lower is not None
    assert 0 < best.trace_lower <= best.trace
    for row in layer.rows[:-1]:
        assert row.trace_lower is None
        assert row.trace * max(1, row.certificate.c) ** 2 >= best.trace_lower
    for row in layer.rows[:-1]:
        assert layer.ratio(row) >= 1 - best.optimum.gap
    # A dense optimum is exact. A kernel is proven between the frequencies too (0.6 %), a strided one within phases.GAP.
    assert best.optimum.gap < (2e-2 if weight.array.ndim > 2 else 1e-6)
    assert best.certificate.c <= 1 + 1e-9


@pytest.mark.parametrize("weight", [WEIGHTS["square"], WEIGHTS["wide"], WEIGHTS["zero column"]])
def test_the_largest_volume_has_the_least_log_det(weight):
    report = reports.compare([weight], METHODS, objective=reports.Objective.LOG_DET)
    (layer,) = report.layers
    assert layer.best.name == "max_volume"
    assert layer.best.trace_lower is None
    assert 0 <= layer.best.optimum.gap < 1e-6
    for row in layer.rows[:-1]:
        assert row.log_det >= layer.best.optimum.lower - 1e-9  # closed forms are rounded, not proven
        assert layer.ratio(row) >= 1 - layer.best.optimum.gap


def test_the_largest_volume_of_a_convolution_is_refused():
    with pytest.raises(UnsupportedConvolution, match="matrices only"):
        reports.compare([WEIGHTS["conv1d"]], objective=reports.Objective.LOG_DET, solver=SCS)


def test_spectrum_of_a_matrix_is_that_of_its_rescaled_gram():
    weight = WEIGHTS["wide"]
    (layer,) = reports.compare([weight], solver=SCS).layers
    for row in layer.rows:
        P = weight.array / np.sqrt(row.certificate.t)
        defect = np.linalg.norm(np.eye(9) - P.T @ P)
        assert row.spectrum.orthogonality_defect == pytest.approx(defect, rel=1e-12)
        assert row.spectrum.mean == pytest.approx(np.linalg.svdvals(P).mean(), rel=1e-12)
        assert row.spectrum.share_above() <= 1


@pytest.mark.parametrize("name", ["circular", "strided"])
@pytest.mark.parametrize("form", ["linear", "residual"])
def test_spectrum_of_a_convolution_is_that_of_its_dense_matrix(name, form):
    """On a circular image the frequencies diagonalise the operator, so the singular values are the same multiset."""
    weight = replace(WEIGHTS[name], geometry=replace(WEIGHTS[name].geometry, padding_mode="circular"))
    (layer,) = reports.compare([weight], solver=SCS, form=form).layers
    geometry, pixels = weight.geometry, np.prod(weight.geometry.image_size)
    C = dense_matrix(weight.array, geometry)
    outputs = C.shape[0] // weight.array.shape[0]
    for row in layer.rows:
        r = row.certificate.t**-0.5
        P = C * np.repeat(r, pixels) if form == "linear" else C * np.repeat(r, outputs)[:, None]
        s = np.linalg.svdvals(P)
        assert row.spectrum.singular_values == pytest.approx(s, abs=1e-10)
        n = P.shape[1] if form == "linear" else P.shape[0]
        defect = np.sqrt(((1 - s**2) ** 2).sum() + n - len(s))
        assert row.spectrum.orthogonality_defect == pytest.approx(defect / outputs**0.5, rel=1e-10)


def test_compare_watches_and_reports_a_stopped_solver():
    seen: list[tuple[str, Progress]] = []
    report = reports.compare(
        [matrix(12, 12)],
        solver=CVXPY("SCS", max_iterations=5),
        watch=lambda layer, step: seen.append((layer.name, step)),
    )
    best = report.layers[0].best
    assert {name for name, _ in seen} == {"fc.weight"}
    assert best.optimum.status is not Status.OPTIMAL
    assert best.trace >= best.trace_lower  # loose, never wrong
    assert all(
        report.layers[0].ratio(row) >= 1 - 1e-9 for row in report.layers[0].rows
    )  # never behind a closed form


@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("form", ["linear", "residual"])
def test_scaled_weights_are_proven_as_stored(weight, form, tmp_path):
    report = reports.scale([weight], reports.AOL, form=form)
    path = tmp_path / "scaled.npz"
    beside = reports.save(report, path)
    assert beside == tmp_path / "scaled.certificate.json"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scaled.certificate.json", "scaled.npz"]
    with np.load(path) as stored:
        assert set(stored.files) == {weight.name, f"{weight.name}.t"}
        array, t = stored[weight.name], stored[f"{weight.name}.t"]
    assert array.dtype == weight.array.dtype
    assert array.shape == weight.array.shape
    if form == "residual":
        assert (array == weight.array).all()
    elif weight.array.ndim == 2:
        expected = weight.array * np.where(t > 0, np.where(t > 0, t, 1) ** -0.5, 0)
        assert array == pytest.approx(expected, rel=1e-6)  # float32
    (claim,) = verify(beside, path).claims
    assert claim.proven
    c = claim.claim.c
    assert (c if form == "linear" else max(1.0, 2 * c**2 - 1)) <= 1 + 1e-6


def test_scaled_kernels_have_the_norm_of_the_rescaled_operator():
    weight = WEIGHTS["grouped"]
    (layer,) = reports.scale([weight], reports.AOL).layers
    C = dense_matrix(weight.array, weight.geometry)
    P = dense_matrix(layer.stored.array, weight.geometry)
    assert np.allclose(P, C * np.repeat(layer.t**-0.5, 9), rtol=1e-12, atol=0)


def test_any_layer_name_can_be_stored(tmp_path):
    weights = [replace(matrix(2, 3), name=name) for name in ("file", "weights[0]", "a/b.weight")]
    reports.save(reports.scale(weights, reports.AOL), tmp_path / "s.npz")
    assert [weight.name for weight in read(tmp_path / "s.npz")] == ["file", "weights[0]", "a/b.weight"]


def test_json_has_no_numbers_that_json_does_not_know():
    huge = Weight("W", np.array([[1e160, 1.0], [0.0, 1e160]]))
    report = reports.check([huge], reports.given({"W": np.array([1.7e308, 1.7e308])}))
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["layers"][0]["trace"] is None


def test_aol_theorem_example():
    example = runpy.run_path(str(EXAMPLES / "aol_theorem.py"))
    for norm in example["NORMS"].values():
        computed, theory = example["closest_dominant"](norm)
        assert computed >= theory * (1 - 1e-12)  # equal where the random T is AOL's own: rounding only
    W = example["example"]()
    t = example["optimum"](W)
    assert example["dominance_of_optimum"]() < -0.1
    assert example["defects"](W, t, "fro") < example["closest_dominant"]("fro")[1]
    assert len(example["figure"]().axes) == 3


def test_digits_example(tmp_path):
    pytest.importorskip("sklearn")
    example = runpy.run_path(str(EXAMPLES / "digits_weights.py"))
    assert example["train"](str(tmp_path / "digits.npz")) > 0.95
    weights = read(tmp_path / "digits.npz")
    assert [(weight.name, weight.array.shape) for weight in weights] == [
        ("fc1.weight", (32, 64)),
        ("fc2.weight", (10, 32)),
    ]

"""Randomized smoothing: bounds that hold with their probability, against exact ones; named wherever they appear."""

import json
from fractions import Fraction
from math import comb, erf, log, pi, sqrt

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem, UnreadableFile
from sdplip.plot import draw_curves
from sdplip.robustness.curve import curves_csv, read_curve
from sdplip.robustness.samples import write_samples
from sdplip.robustness.smoothing import (
    Smoothing,
    certify_smoothed,
    mean_below,
    proportion_below,
    score_constant,
)
from tests.commands import answer, invoke
from tests.test_cli_certify import made, run  # noqa: F401  (fixtures)


def at_least(hits, n, p):
    """P(Bin(n, p) >= hits), exactly."""
    p = Fraction(p)
    return sum(comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(hits, n + 1))


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize(("hits", "n"), [(1, 1), (1, 20), (13, 20), (20, 20), (55, 60)])
def test_the_bound_of_a_proportion_is_exact(hits, n, alpha):
    p = proportion_below(hits, n, alpha)
    assert alpha * (1 - 1e-6) < at_least(hits, n, p) <= Fraction(alpha)


def test_bounds_of_proportions_that_are_known():
    assert proportion_below(0, 10, 0.001) == 0
    assert proportion_below(50, 50, 0.001) == pytest.approx(0.001 ** (1 / 50), rel=1e-8)
    assert Smoothing(0.5, 1000).ceiling == pytest.approx(
        0.5 * 2.4624, abs=1e-3
    )  # Phi^-1(0.001^(1/1000)) = 2.4624


@pytest.mark.parametrize("q", [0.3, 0.5, 0.9, 0.99])
def test_the_bound_fails_no_more_often_than_alpha(q):
    n, alpha = 30, 0.05
    wrong = [k for k in range(n + 1) if proportion_below(k, n, alpha) > q]
    assert sum(comb(n, k) * Fraction(q) ** k * (1 - Fraction(q)) ** (n - k) for k in wrong) <= Fraction(alpha)


def test_the_bound_of_a_mean_is_known_by_hand():
    """Constant scores have no variance: 7 log(2 / alpha) / (3 (n - 1)) is lost. Half zeros, half ones: V = n / (4 (n - 1))."""
    assert mean_below(np.full(101, 0.75), 0.05) == pytest.approx(0.75 - 7 * log(40) / 300)
    half = np.tile([0.0, 1.0], 50)
    assert mean_below(half, 0.05) == pytest.approx(
        0.5 - sqrt(2 * 25 / 99 * log(40) / 100) - 7 * log(40) / (3 * 99)
    )


@pytest.mark.parametrize("sigma", [0.25, 1.0])
@pytest.mark.parametrize("slope", [0.1, 1.0, 30.0])
def test_the_constant_of_a_smoothed_score_is_reached_by_the_ramp(slope, sigma):
    """The derivative of a smoothed ramp by quadrature, and the two limits of the slope."""
    t = np.linspace(-0.5 / slope, 0.5 / slope, 200_001)
    density = np.exp(-t * t / (2 * sigma**2)) / (sigma * sqrt(2 * pi))
    assert score_constant(slope, sigma) == pytest.approx(float(slope * np.trapezoid(density, t)), rel=1e-6)
    assert score_constant(slope, sigma) <= min(slope, 1 / (sigma * sqrt(2 * pi))) * (1 + 1e-6)


class Line(nn.Module):
    """Two logits (x_0, -x_0): the class is the sign of the first pixel, all margins have constant 2."""

    def forward(self, x):
        return torch.stack([x[:, 0], -x[:, 0]], 1)


CONSTANTS = np.array([[0.0, 2.0], [2.0, 0.0]])


@pytest.fixture(scope="module")
def line():
    """At first pixels 0, 0.3, 1, 5 in units where sigma is 0.5; the true radius of the smoothed classifier is the pixel itself."""
    images = torch.tensor([[0.0, 0.2], [0.3, 0.9], [1.0, 0.1], [5.0, 0.0]], dtype=torch.float64)
    smoothing = Smoothing(0.5, 4000, 0.001)
    return certify_smoothed(Line(), images, torch.zeros(4, dtype=torch.long), smoothing, constants=CONSTANTS)


def test_radii_of_a_half_space_are_below_the_true_ones(line):
    cohen, score = line
    assert (cohen.method, score.method) == ("cohen", "lipschitz")
    for found in line:
        assert found.prediction.tolist() == [-1, 0, 0, 0] and found.radius[0] == 0
        assert (found.radius[1:3] <= [0.3, 1.0]).all() and (found.radius[1:3] >= [0.22, 0.78]).all()
        assert found.clean == 0.75 and found.certified(0.2) == 0.75 and found.certified("1") == 0.25
    assert cohen.radius[3] == pytest.approx(cohen.smoothing.ceiling, rel=1e-6)
    assert score.radius[3] <= 5
    assert cohen.probability == 0.999 and cohen.evaluations == 4100


def test_the_noise_depends_on_the_image_and_the_seed_alone():
    images, labels = torch.full((3, 2), 0.7, dtype=torch.float64), torch.zeros(3, dtype=torch.long)
    radii = [
        certify_smoothed(Line(), images, labels, Smoothing(0.5, 200, seed=seed), batch=batch)[0].radius
        for seed, batch in ((0, 7), (0, 300), (1, 300))
    ]
    assert np.array_equal(radii[0], radii[1]) and not np.array_equal(radii[0], radii[2])
    assert len(set(radii[0])) > 1


def test_without_constants_there_is_cohen_alone():
    found = certify_smoothed(Line(), torch.rand(2, 2), torch.zeros(2, dtype=torch.long), Smoothing(0.5, 50))
    assert [one.method for one in found] == ["cohen"]


@pytest.mark.parametrize(
    "wrong", [(0.0, 1000, 0.001), (np.nan, 1000, 0.001), (0.5, 1000, 1.0), (0.5, 9, 0.001)]
)
def test_parameters_that_certify_nothing_are_refused(wrong):
    with pytest.raises(InvalidProblem, match="Use"):
        Smoothing(*wrong)
    assert Smoothing(0.5, 10, 0.001).ceiling > 0


def test_tables_and_curves_name_the_probability(line, tmp_path):
    path = tmp_path / "cohen.csv"
    write_samples(path, line[0])
    curve = read_curve(path)
    assert (curve.probability, curve.evaluations) == (0.999, 4100)
    assert curve.label == "cohen (with 99.9 % an image, 4,100 evaluations)"
    assert curve.at(0.2) == line[0].certified(0.2) and curve.clean == line[0].clean
    assert ",certified with probability 0.999," in curves_csv([curve]) and ",certified," not in curves_csv(
        [curve]
    )
    texts = [text.get_text() for text in draw_curves([curve]).legends[0].get_texts()]
    assert texts == ["cohen\n(with 99.9 % an image, 4,100 evaluations)"]
    rows = path.read_text().splitlines()
    for damaged in (rows[1].replace("0.999", "0.99"), rows[1].replace("0.999", "1.0")):
        path.write_text("\n".join([rows[0], damaged, *(rows[2:] if "0.99," in damaged else [])]))
        with pytest.raises(UnreadableFile, match="probability"):
            read_curve(path)


def test_the_command_line_keeps_both_kinds_apart(run):  # noqa: F811
    small = ("certify", run, "--limit", "20", "--radii", "0.1")
    code, out = answer(invoke, *small, "--smoothing", "0.1,100,0.01")
    assert code == 0
    said = out["smoothing"]
    assert said["probability"] == 0.99 and said["evaluations"] == 200
    for method in (said["cohen"], said["score"]):
        assert set(method) == {"clean", "abstained", "certified_with_probability", "mean_radius"}
    plain = answer(invoke, *small)[1]
    assert plain["smoothing"] is None and plain["certified"] == out["certified"]


def test_a_run_keeps_tables_for_curves(run):  # noqa: F811
    code, out, _ = invoke("certify", "RUN", "--smoothing", "0.1,20,0.01")
    assert code == 0 and "Not proven: randomized smoothing" in out and "99 % an image" in out
    code, out = answer(invoke, "curves", "RUN", "RUN/smoothing-cohen.csv")
    assert code == 0
    proven, sampled = out["curves"]
    assert proven["probability"] is None and sampled["probability"] == 0.99 and sampled["evaluations"] == 120
    assert json.loads((run / "certification.json").read_text())["smoothing"]["probability"] == 0.99


@pytest.mark.parametrize("wrong", ["a", "0.1,2.5", "0.1,10,0.1,3", "0.1,5,0.001", "-1"])
def test_bad_parameters_are_one_sentence(run, wrong):  # noqa: F811
    code, _, err = invoke("certify", run, "--limit", "2", f"--smoothing={wrong}")
    assert code == 2 and "Traceback" not in err and ("0.25,1000,0.001" in err or "Use" in err)


def test_erf_of_the_formula_is_the_normal_distribution():
    """a P(|noise| <= 1 / (2 a)) for a = 1, sigma = 1/2: the middle two standard deviations."""
    assert score_constant(1.0, 0.5) == pytest.approx(erf(1 / sqrt(2)), rel=1e-8)
    assert score_constant(1e6, 1.0) == pytest.approx(1 / sqrt(2 * pi), rel=1e-6)

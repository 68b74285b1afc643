"""Figures: every row is drawn and named, labels do not overlap, files are written whole and without a display."""

import subprocess
import sys

import numpy as np
import pytest

from sdplip import plot, reports
from sdplip.plot.scalings import _spread
from sdplip.solvers import CVXPY
from sdplip.weights import Weight


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(0)
    weights = [Weight("a.weight", rng.normal(size=(6, 5))), Weight("b", rng.normal(size=(1, 4)))]
    return reports.compare(weights, solver=CVXPY("SCS"))


def test_one_row_a_layer_every_scaling_named(report):
    figure = plot.comparison(report)
    assert len(figure.axes) == 4
    for i, layer in enumerate(report.layers):
        left, right = figure.axes[2 * i : 2 * i + 2]
        names = [row.name for row in layer.rows]
        assert [label.get_text() for label in left.get_yticklabels()] == names
        assert {text.get_text() for text in right.texts} == set(names)
        widths = [bar.get_width() for bar in left.patches]
        assert widths == pytest.approx([layer.ratio(row) for row in layer.rows])
        assert widths[-1] == 1


def test_styles_are_distinct_without_colour(report):
    figure = plot.comparison(report)
    lines = figure.axes[1].lines[: len(report.layers[0].rows)]
    assert len({line.get_color() for line in lines}) == len(lines)
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == len(lines)


def test_labels_keep_their_distance():
    places = _spread([0.5, 0.5, 0.0, 0.51, 0.9], 0.1)
    assert (np.diff(sorted(places)) >= 0.1 - 1e-12).all()
    assert np.argsort(places, kind="stable").tolist() == [2, 0, 1, 3, 4]


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_files(report, suffix, start, tmp_path):
    path = tmp_path / f"figure{suffix}"
    plot.save(plot.comparison(report), path)
    assert path.read_bytes().startswith(start)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    first = path.read_bytes()
    plot.save(plot.comparison(report), path)
    assert path.read_bytes() == first


def test_nothing_is_left_of_a_figure_that_cannot_be_written(report, tmp_path):
    with pytest.raises(ValueError, match="bmq"):
        plot.save(plot.comparison(report), tmp_path / "figure.bmq")
    assert not list(tmp_path.iterdir())


def test_pyplot_is_not_loaded():
    code = "import sys, sdplip.plot; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

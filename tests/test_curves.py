"""Curves: exact steps of the radii, integral = mean radius, files that are refused in words, figures of them."""

import math
from fractions import Fraction

import numpy as np
import pytest

from sdplip import plot
from sdplip.errors import InvalidProblem, UnreadableFile
from sdplip.robustness.curve import AttackPoint, curve_of_radii, curves_csv, read_curve, write_curves
from sdplip.robustness.published import published

EPS = 36 / 255


def samples(n=200, seed=0):
    """Radii with ties, zeros and values exactly at a radius of the literature."""
    rng = np.random.default_rng(seed)
    radius = np.round(np.abs(rng.normal(size=n)), 2) * 0.5
    radius[:5] = EPS
    return radius, rng.random(n) < 0.7


def curve_with_attack(name="ours", **points):
    radius, correct = samples()
    attacks = [AttackPoint(attack, EPS, accuracy) for attack, accuracy in points.items()]
    return curve_of_radii(name, radius, correct, attacks=attacks)


def text_of(radius, correct, separator=","):
    rows = [separator.join(["idx", "label", "predict", "radius", "correct"])]
    rows += [
        separator.join([str(i), "3", "3" if c else "4", repr(float(r)), str(int(c))])
        for i, (r, c) in enumerate(zip(radius, correct, strict=True))
    ]
    return "\n".join(rows) + "\n"


# ---------------------------------------------------------------------------------------------------- laws


def test_a_hand_made_curve():
    curve = curve_of_radii("by hand", np.array([0.5, 0.25, 0.5, 0.0, 9.0]), np.array([1, 1, 1, 1, 0], bool))
    assert curve.radii.tolist() == [0, 0.25, 0.5] and curve.count.tolist() == [3, 2, 0]
    assert (curve.clean, curve.at(0), curve.at(0.25), curve.at("1/2")) == (0.8, 0.6, 0.4, 0)
    assert curve.mean_radius == 1.25 / 5


@pytest.mark.parametrize("seed", range(5))
def test_it_counts_strictly_larger_radii_everywhere(seed):
    radius, correct = samples(seed=seed)
    curve = curve_of_radii("c", radius, correct)
    for r in [*np.unique(radius), *np.nextafter(np.unique(radius), 9), 0.0, EPS, 7.0]:
        assert curve.at(float(r)) == np.mean(correct & (radius > r))
    assert curve.clean >= curve.at(0)
    assert (np.diff(curve.accuracy) < 0).all() and (np.diff(curve.radii) > 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_integral_is_the_mean_radius(seed):
    radius, correct = samples(seed=seed)
    mean = curve_of_radii("c", radius, correct).mean_radius
    assert mean == pytest.approx(np.where(correct, radius, 0).mean(), rel=1e-13)  # roundings of two sums


def test_text_radii_are_compared_exactly():
    """The double nearest to 36/255 is below it or above it: a radius equal to that double counts on one side only."""
    for eps in ("36/255", "72/255", "1/3", "0.1"):
        double = float(Fraction(eps))
        curve = curve_of_radii("c", np.array([double]), np.array([True]))
        assert curve.at(eps) == (Fraction(double) > Fraction(eps))
        assert curve.at(math.nextafter(double, 0)) == 1 and curve.at(double) == 0


def test_infinite_radii_never_fall():
    curve = curve_of_radii("constant", np.array([np.inf, 1.0]), np.array([True, True]))
    assert curve.at(1e300) == 0.5 and curve.mean_radius == math.inf


def test_no_right_prediction():
    curve = curve_of_radii("wrong", np.array([1.0, 2.0]), np.array([False, False]))
    assert (curve.at(0), curve.clean, curve.mean_radius) == (0, 0, 0)
    assert plot.draw_curves([curve]).axes


def test_an_attack_below_the_curve_is_reported():
    certified = curve_with_attack().at(EPS)
    assert curve_with_attack(pgd=certified).broken == ()
    (point,) = curve_with_attack(pgd=certified - 0.01, autoattack=1.0).broken
    assert (point.attack, point.eps) == ("pgd", EPS)


def test_it_agrees_with_the_certification():
    torch = pytest.importorskip("torch")
    from sdplip.robustness.certification import certify_accuracy
    from sdplip.robustness.curve import curve_of_certification

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    found = certify_accuracy(model, torch.rand(50, 1, 2, 2), torch.randint(3, (50,)))
    curve = curve_of_certification("linear", found)
    assert all(curve.at(eps) == found.certified(eps) for eps in ("0", "36/255", "72/255", "1"))
    assert (curve.clean, curve.n) == (found.clean, found.n)
    assert curve.mean_radius == pytest.approx(found.mean_radius, rel=1e-13)


INVALID = {
    "empty": ([], [], (), "at least 1"),
    "lengths": ([1.0], [True, False], (), "one length"),
    "negative": ([1.0, -1.0], [True, True], (), "sample 1 is -1.0"),
    "nan": ([np.nan], [True], (), "nan"),
    "attack": ([1.0], [True], (AttackPoint("pgd", 0.1, 1.5),), "pgd has 1.5"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_samples_are_refused(case):
    radius, correct, attacks, reason = INVALID[case]
    with pytest.raises(InvalidProblem, match=reason):
        curve_of_radii("c", np.array(radius), np.array(correct, bool), attacks=attacks)


# ---------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_table_gives_the_same_curve(tmp_path, separator):
    radius, correct = samples()
    path = tmp_path / "radii.csv"
    path.write_text(text_of(radius, correct, separator))
    curve, expected = read_curve(path), curve_of_radii("c", radius, correct)
    assert curve.name == "radii" and curve.correct == expected.correct
    np.testing.assert_array_equal(curve.radii, expected.radii)
    np.testing.assert_array_equal(curve.count, expected.count)


HEAD = "idx,label,predict,radius,correct\n"
DAMAGED = {
    "empty": (b"", "columns"),
    "no rows": (HEAD.encode(), "at least 1"),
    "other columns": (b"epoch,loss\n1,2\n", "columns `epoch, loss`"),
    "cut off": ((HEAD + "0,3,3,0.5,1\n1,3").encode(), "line 3"),
    "no number": ((HEAD + "0,3,3,far,1\n").encode(), "line 2"),
    "negative": ((HEAD + "0,3,3,-1,1\n").encode(), "negative"),
    "nan": ((HEAD + "0,3,3,nan,1\n").encode(), "NaN"),
    "contradiction": ((HEAD + "0,3,4,0.5,1\n").encode(), "contradicts"),
    "binary": (b"\x93NUMPY\xff\xfe", "no text"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_tables_are_refused(tmp_path, case):
    content, reason = DAMAGED[case]
    path = tmp_path / "radii.csv"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match=reason):
        read_curve(path)


def test_the_tidy_table_holds_every_step(tmp_path):
    curve, rows = curve_with_attack(pgd=0.6), published("SLL XL (v1)", "cifar10")
    lines = [line.split(",") for line in curves_csv([curve], rows).splitlines()]
    assert lines[0] == ["curve", "kind", "radius", "accuracy"]
    steps = [(float(r), float(a)) for name, kind, r, a in lines if (name, kind) == ("ours", "certified")]
    assert steps == list(zip(curve.radii, curve.accuracy, strict=True))
    assert ["ours", "pgd", repr(EPS), "0.6"] in lines
    assert "published (not certified),1.0,0.273" in curves_csv([], rows)
    write_curves(tmp_path / "c.csv", [curve], rows)
    assert (tmp_path / "c.csv").read_text() == curves_csv([curve], rows)
    assert [p.name for p in tmp_path.iterdir()] == ["c.csv"]


# ---------------------------------------------------------------------------------------------------- figures


def test_the_figure_shows_every_curve_attack_and_row():
    curves = [curve_with_attack("a", pgd=0.6), curve_with_attack("b")]
    rows = [*published("SLL", "cifar10"), *published("AOL L", "cifar10")]
    figure = plot.draw_curves(curves, rows)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[:2] == ["a", "b"] and "pgd" in names[2] and len(names) == 3 + len(rows)
    hollow = [name for name in names[3:] if "not certified" in name]
    assert hollow == ["SLL S (v1), not certified", "SLL XL (v1), not certified"]
    handles = dict(zip(names, figure.legends[0].legend_handles, strict=True))
    assert all((handles[name].get_markerfacecolor() == "white") == (name in hollow) for name in names[3:])
    steps = [line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post"]
    assert [line.get_linestyle() for line in steps] == ["-", "--", "-"]
    assert list(steps[1].get_ydata()) == [curves[0].clean, 0.6, 0.6]


def test_the_attack_side_is_never_below_the_truth():
    """Attacks know single radii: from one to the next the side stays, and a weaker attack farther out does not lift it."""
    radius, correct = np.array([0.1, 0.2, 0.6, 0.9]), np.ones(4, bool)
    points = [AttackPoint("pgd", 0.25, 0.5), AttackPoint("pgd", 0.5, 0.75), AttackPoint("other", 0.7, 0.25)]
    curve = curve_of_radii("c", radius, correct, attacks=points)
    assert curve.upper_side == ((0.0, 1.0), (0.25, 0.5), (0.7, 0.25))
    drawn = plot.draw_curves([curve], max_radius=1).axes[0].lines
    (side,) = [line for line in drawn if line.get_linestyle() == "--"]
    x, y = side.get_xdata(), side.get_ydata()
    for r in np.linspace(0, 1, 101):
        shown = y[np.searchsorted(x, r, side="right") - 1]
        assert shown == min(p.accuracy for p in (*points, AttackPoint("", 0, 1.0)) if p.eps <= r)
    marks = [line for line in drawn if line.get_markerfacecolor() == "white"]
    assert [list(line.get_xdata()) for line in marks] == [[0.7, 0.25, 0.5]]


def test_curves_and_rows_differ_without_colour():
    curves = [curve_with_attack(name) for name in "abcdef"]
    rows = published("1LLC", "cifar10")
    handles = plot.draw_curves(curves, rows).legends[0].legend_handles
    styles = [(h.get_marker(), h.get_linestyle()) for h in handles]
    assert len(set(styles)) == len(styles) == 13


def test_the_axis_ends_where_the_curves_do_or_as_told():
    curve = curve_of_radii("c", np.array([0.5] * 999 + [50.0]), np.ones(1000, bool))
    assert plot.draw_curves([curve]).axes[0].get_xlim()[1] == pytest.approx(0.52)
    assert plot.draw_curves([curve], published("AOL L", "cifar10")).axes[0].get_xlim()[1] > 1
    assert plot.draw_curves([curve], max_radius=0.25).axes[0].get_xlim() == (0, 0.25)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_the_same_figure_has_the_same_bytes(tmp_path, suffix):
    files = [tmp_path / f"{i}{suffix}" for i in range(2)]
    for file in files:
        plot.save(plot.draw_curves([curve_with_attack(pgd=0.7)], published("CPL", "cifar10")), file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_legend_covers_nothing():
    figure = plot.draw_curves([curve_with_attack("a long name " * 3)], published("1LLC", "cifar10"))
    figure.canvas.draw()
    legend, axes = figure.legends[0].get_window_extent(), figure.axes[0].get_window_extent()
    assert legend.x0 >= axes.x1 and legend.x1 <= figure.bbox.x1 and legend.y0 >= 0

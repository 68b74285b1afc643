"""Published rows: values as printed, monotone in the radius, and a reason wherever the bound is none."""

from fractions import Fraction

import pytest

from sdplip.errors import InvalidProblem
from sdplip.robustness.published import ROWS, papers, published


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.model} {row.data}")
def test_rows_are_curves(row):
    """Accuracy falls with the radius, and clean accuracy is the largest of all."""
    radii = [Fraction(r) for r, _ in row.certified]
    percents = [p for _, p in row.certified]
    assert radii == sorted(set(radii)) and radii[0] > 0
    assert percents == sorted(percents, reverse=True)
    assert percents[-1] > 0 and percents[0] < (row.clean or 100) <= 100
    assert row.source and row.data in ("mnist", "cifar10", "cifar100", "tiny_imagenet")


def test_names_are_unique():
    keys = [(row.model, row.data) for row in ROWS]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("model", "data", "doubt"),
    [
        ("SLL XL (v1)", "cifar10", "one side"),
        ("CPL XL", "cifar10", "power iteration"),
        ("GloRo", "mnist", "power iteration"),
        ("LiResNet", "cifar100", "power iteration"),
        ("SLL XL (v2)", "cifar10", None),
        ("AOL L", "cifar10", None),
        ("Sandwich", "tiny_imagenet", None),
    ],
)
def test_what_is_not_certified_says_why(model, data, doubt):
    row = next(row for row in published(model, data) if row.model == model)
    assert row.doubt is None if doubt is None else doubt in (row.doubt or "")


def test_every_first_version_of_sll_is_marked():
    first = [row for row in ROWS if "(v1)" in row.model]
    assert first and all(row.doubt and "2303.03169v2" in row.doubt for row in first)


def test_numbers_to_beat():
    (glo,) = published("gloro", "mnist")
    assert (glo.clean, glo.certified) == (97.0, (("1.58", 62.8),))
    assert dict(published("AOL S, offset 4√2")[0].certified)["1"] == 31.1
    assert dict(published("SLL XL (v2)")[0].certified) == {"36/255": 64.8}
    assert dict(published("CPL XL")[0].certified) == {"36/255": 64.4, "72/255": 48.0, "108/255": 33.0}


def test_selection():
    assert {row.data for row in published("SLL")} == {"cifar10", "cifar100", "tiny_imagenet"}
    assert {row.paper for row in published("1llc", "tiny_imagenet")} == {"1LLC"}
    assert {"SLL", "CPL", "AOL", "1LLC", "GloRo"} <= set(papers())
    with pytest.raises(InvalidProblem, match=r"`SSL`.*SLL, CPL"):
        published("SSL")
    with pytest.raises(InvalidProblem, match="only about cifar10, cifar100, tiny_imagenet"):
        published("SLL", "digits")

"""Boxes of VNN-LIB properties: they hold every input that the property allows, and forged files leave no traceback."""

import gzip
import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sdplip.errors import SdplipError, UnreadableFile
from sdplip.network.read.vnnlib import DEEPEST, LARGEST, InputBox, read_input_box
from tests.commands import answer, invoke

DECLARED = "".join(f"(declare-const X_{k} Real)\n" for k in range(2)) + "(declare-const Y_0 Real)\n"
BOX = "(assert (<= X_0 0.1))(assert (>= X_0 -0.1))(assert (and (<= X_1 2) (>= X_1 1)))"


def box(folder: Path, text: str) -> InputBox:
    path = folder / "p.vnnlib"
    path.write_text(text)
    return read_input_box(path)


def ends(found: InputBox) -> list[tuple[float, float]]:
    return list(zip(found.lower.tolist(), found.upper.tolist(), strict=True))


CASES = {
    "asserted": (BOX, [(-0.1, 0.1), (1, 2)], True),
    "outputs are not read": (
        BOX + "(assert (or (and (>= Y_0 1)) (and (<= Y_0 0))))",
        [(-0.1, 0.1), (1, 2)],
        True,
    ),
    "numbers first": (
        "(assert (>= 0.1 X_0))(assert (<= -0.1 X_0))(assert (= X_1 3))",
        [(-0.1, 0.1), (3, 3)],
        True,
    ),
    "strict and twice": (BOX + "(assert (< X_0 5))(assert (> X_1 1.5))", [(-0.1, 0.1), (1.5, 2)], True),
    "signs of SMT-LIB": (
        "(assert (>= X_0 (- 0.1)))(assert (<= X_0 +1e-1))(assert (= X_1 0))",
        [(-0.1, 0.1), (0, 0)],
        True,
    ),
    "cases": (
        "(assert (or (and (>= X_0 0) (<= X_0 1) (= X_1 1) (<= Y_0 0)) (and (>= X_0 3) (<= X_0 4) (= X_1 2))))",
        [(0, 4), (1, 2)],
        False,
    ),
    "cases with the same inputs": (
        "(assert (= X_0 1))(assert (= X_1 2))(assert (or (and (<= Y_0 0)) (and (<= Y_0 Y_0))))",
        [(1, 1), (2, 2)],
        True,
    ),
    "an impossible case": (
        "(assert (= X_1 2))(assert (or (and (>= X_0 1) (<= X_0 0)) (and (>= X_0 3) (<= X_0 4))))",
        [(3, 4), (2, 2)],
        True,
    ),
    "other conditions": (BOX + "(assert (<= (+ X_0 X_1) 1))", [(-0.1, 0.1), (1, 2)], False),
    "negated": (BOX + "(assert (not (<= X_0 0)))", [(-0.1, 0.1), (1, 2)], False),
    "a case of outputs alone": (BOX + "(assert (or (<= X_0 0) (<= Y_0 0)))", [(-0.1, 0.1), (1, 2)], False),
}


@pytest.mark.parametrize("case", CASES)
def test_boxes_of_properties(tmp_path, case):
    text, expected, exact = CASES[case]
    found = box(tmp_path, "; a comment (with words\n" + DECLARED + text)
    for (low, high), (a, b) in zip(ends(found), expected, strict=True):
        assert Fraction(low) <= Fraction(str(a)) and Fraction(str(b)) <= Fraction(high)
        assert (low, high) == pytest.approx((a, b), rel=1e-15)
    assert found.exact is exact


def test_decimals_are_rounded_outward(tmp_path):
    rng = np.random.default_rng(0)
    for text in ["0.1", "0.3", "1e-320", "123456789.123456789123456789", *map(repr, rng.normal(size=20))]:
        text = text.removeprefix("np.float64(").removesuffix(")")
        found = box(tmp_path, DECLARED + f"(assert (= X_0 {text}))(assert (= X_1 -{text.lstrip('-')}))")
        for (low, high), value in zip(ends(found), (Fraction(text), -abs(Fraction(text))), strict=True):
            assert Fraction(low) <= value <= Fraction(high)
            assert high <= np.nextafter(low, np.inf)


REFUSED = {
    "free": (DECLARED + "(assert (<= X_0 1))(assert (>= X_0 0))", "`X_1`"),
    "one end": (DECLARED + "(assert (= X_0 1))(assert (>= X_1 0))", "`X_1`"),
    "infinite": (DECLARED + BOX + "(assert (<= X_1 1e999))".replace("<=", ">="), "no"),
    "empty": (DECLARED + BOX + "(assert (>= X_0 1))", "no input"),
    "no case": (DECLARED + BOX + "(assert (or (and (>= X_0 1) (<= X_0 0))))", "no input"),
    "nothing": ("", "X_0"),
    "not declared": (DECLARED + BOX + "(assert (<= X_7 1))", "X_7"),
    "a gap": ("(declare-const X_1 Real)", "X_0"),
    "another name": ("(declare-const Z_0 Real)", "Z_0"),
    "version 2": ("(vnnlib-version <2.0>)(declare-network f)", "version 1"),
    "open": (DECLARED + BOX + "(assert (<= X_0 1)", "open"),
    "closed": (DECLARED + BOX + ")", "closes"),
    "words": ("hello", "hello"),
    "depth": (DECLARED + "(" * (DEEPEST + 1), "nests"),
    "a gigantic number": (DECLARED + BOX + "(assert (>= X_0 1e999999999999))", "no"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_box_is_refused(tmp_path, case):
    text, word = REFUSED[case]
    with pytest.raises(UnreadableFile) as caught:
        box(tmp_path, text)
    assert word in str(caught.value) and "\n" not in str(caught.value)


def test_packed_and_missing_and_huge_files(tmp_path):
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress((DECLARED + BOX).encode()))
    assert len(read_input_box(tmp_path / "p.vnnlib.gz").lower) == 2
    (tmp_path / "b.vnnlib.gz").write_bytes(gzip.compress(b" " * (LARGEST + 2)))
    for name, word in (("b.vnnlib.gz", "MB"), ("none.vnnlib", "no file")):
        with pytest.raises(UnreadableFile, match=word):
            read_input_box(tmp_path / name)


def test_damage_leaves_no_traceback(tmp_path):
    whole, rng = (DECLARED + CASES["cases"][0]).encode(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        (tmp_path / "p.vnnlib").write_bytes(damaged)
        try:
            read_input_box(tmp_path / "p.vnnlib")
        except SdplipError:
            continue


def test_bound_takes_the_box(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez(
        "net.npz",
        **{f"w{k}": rng.normal(size=(m, n)) for k, (n, m) in enumerate(itertools.pairwise((2, 6, 3)))},
    )
    Path("p.vnnlib").write_text(DECLARED + BOX.replace("0.1", "0.125"))
    np.save("low.npy", np.array([-0.125, 1.0]))
    np.save("high.npy", np.array([0.125, 2.0]))
    region = answer(invoke, "bound", "net.npz", "--region", "p.vnnlib")[1]["bound"]
    assert region == answer(invoke, "bound", "net.npz", "--box", "low.npy,high.npy")[1]["bound"]
    assert region <= answer(invoke, "bound", "net.npz")[1]["bound"]
    assert invoke("bound", "net.npz", "--region", "p.vnnlib", "--box", "0,1")[0] == 2
    np.savez("wide.npz", w=np.ones((2, 5)))
    code, _, err = invoke("bound", "wide.npz", "--region", "p.vnnlib")
    assert code == 2 and "takes 5" in err

"""Answers in a terminal of 80 columns: no line is longer, no number and no name is broken; without one lines are not folded."""

import re

import numpy as np
import pytest
from rich.console import Console

from sdplip.cli.render import above, below, open_table
from sdplip.lines import command, folded, room
from tests.commands import answer, invoke

LONG = "features.block_one.conv_branch.weight"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A network with a long name, a certificate and a table of radii."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez(
        "net.npz",
        **{LONG: rng.normal(size=(5, 4)) / 9, "fc1.bias": np.ones(5), "fc2.weight": rng.normal(size=(9, 5))},
    )
    assert invoke("check", "net.npz", "--scaling", "aol", "--certificate", "C.json")[0] == 0
    rows = "".join(f"1,1,{r}\n" for r in rng.uniform(0, 1, 20))
    (tmp_path / "radii.csv").write_text("label,predict,radius\n" + rows)


NETWORK = ("bound", "net.npz", "--structure", "chain")
COMMANDS = [
    ("check", "net.npz"),
    ("check", "net.npz", "--certificate", "a-rather-long-name-of-a-certificate-for-one-line-of-text.json"),
    ("check", "net.npz", "--form", "nothing"),
    ("check", "nothing.npz"),
    ("compare", "net.npz"),
    ("compare", "net.npz", "--objective", "logdet"),
    ("scale", "net.npz", "-o", "scaled.npz", "--force"),
    NETWORK,
    (*NETWORK, "--compare", "--output-pair", "3,8"),
    (*NETWORK, "--output-norm", "linf"),
    (*NETWORK, "--layer", LONG, "--layer", "fc2.weight", "--ball", "0,1"),
    ("verify", "C.json", "net.npz"),
    ("show", "C.json"),
    ("curves", "radii.csv", "--reference", "SLL:cifar10", "--reference", "AOL:cifar10"),
    ("train", "--list-presets"),
    ("train",),
]


@pytest.mark.parametrize("asked", COMMANDS, ids=lambda asked: " ".join(asked)[:40])
def test_no_line_is_longer_than_the_terminal(asked, monkeypatch):
    wide = "".join(invoke(*asked)[1:])
    monkeypatch.setenv("COLUMNS", "80")
    narrow = "".join(invoke(*asked)[1:])
    assert wide.strip() and max(map(len, narrow.splitlines())) <= 80
    # No word is broken: a word of the folded text is a word of the text, seconds (which vary) apart.
    words = {word for word in re.split(r"[\s│─]+", wide) if not re.fullmatch(r"[\d.e-]+", word)}
    found = {word for word in re.split(r"[\s│─]+", narrow) if not re.fullmatch(r"[\d.e-]+", word)}
    assert found <= words | {
        "\\",
        "Not",
        "shown:",
        "log",
        "det",
        "T.",
        "trace.",
        "Widen",
        "the",
        "terminal,",
        "or",
        "use",
        "--json.",
    }


def test_numbers_stay_whole(monkeypatch):
    layers = answer(invoke, "check", "net.npz")[1]["layers"]
    compared = answer(invoke, "compare", "net.npz")[1]["layers"]
    monkeypatch.setenv("COLUMNS", "80")
    out = invoke("check", "net.npz")[1]
    for layer in layers:
        assert layer["name"] in out.split() and f"[{below(layer['c_lower'])}, {above(layer['c'])}]" in out
    out = invoke("compare", "net.npz")[1]
    for row in (row for layer in compared for row in layer["scalings"]):
        assert f"{row['trace']:.6g}" in out.split() and f"{row['mean_singular_value']:.4f}" in out.split()
    assert (
        "Not shown: log det T." in out
        and "log det T" in invoke("compare", "net.npz", "--objective", "logdet")[1]
    )


def drawn(table, width):
    console = Console(width=width)
    with console.capture() as found:
        console.print(table)
    return found.get().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_a_wide_first_column_stands_above_its_row(width):
    table = open_table(LONG[:8], "shape", bound="Lipschitz bound", seconds="")
    for name in (LONG, "b"):
        table.add_row(name, "5 × 4", "13.28559", "0.0012")
    lines = drawn(table, width)
    assert max(map(len, lines)) <= width
    assert "".join(lines).replace(" ", "").count(LONG) == 1
    rows = [line for line in lines if "13.28559" in line.split()]
    assert len(rows) == 2 and all({"5", "4"} <= set(line.split()) for line in rows)


def test_text_is_folded_between_words_and_branches_go_on_below():
    tree = "root\n├─ one two three four five six\n│  └─ seven eight nine ten eleven\n└─ twelve"
    assert folded(tree, 20).splitlines() == [
        "root", "├─ one two three", "│    four five six", "│  └─ seven eight", "│       nine ten", "│       eleven", "└─ twelve",
    ]  # fmt: skip
    assert folded("a " * 50, None) == "a " * 50
    assert folded("x" * 50, 30) == "x" * 50, "a word is never broken"
    assert command("sdplip verify one-long-name.json another.npz", 30) == (
        "sdplip verify \\\n  one-long-name.json \\\n  another.npz"
    )


def test_who_sees_how_many_columns(monkeypatch, capsys):
    import sys

    monkeypatch.setenv("COLUMNS", "70")
    assert room(sys.stdout) == 70
    monkeypatch.setenv("COLUMNS", "wide")
    assert room(sys.stdout) is None, "no terminal"
    assert capsys.readouterr().out == ""

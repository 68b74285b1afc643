"""`sdplip curves`: table, figure and CSV of certified runs; bad input is refused in one sentence and writes nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import answer, invoke
from tests.test_curves import samples, text_of


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `sdplip ...` in a folder with two certified runs, one that is not, and damaged ones."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("sll", "cpl", "other/sll", "digits", "short", "damaged", "few", "broken")):
        folder = Path(name)
        folder.mkdir(parents=True)
        radius, correct = samples(seed=seed)
        data = "digits" if name == "digits" else "cifar10"
        document = {"model": name, "data": data, "n": len(radius), "empirical": {}}
        if name == "sll":
            document["empirical"] = {"pgd": {"36/255": 0.68, "1": 0.4}}
        if name == "broken":
            document["empirical"] = {"pgd": {"36/255": 0.01}}
        if name == "few":
            document["n"] = 7
        (folder / "certification.json").write_text(json.dumps(document))
        (folder / "radii.csv").write_text(text_of(radius, correct))
    Path("trained").mkdir()
    Path("short/radii.csv").unlink()
    Path("damaged/certification.json").write_text('{"model": "x", "emp')
    Path("other.csv").write_text(text_of(*samples(seed=9)))
    Path("log.csv").write_text("epoch,loss\n1,0.5\n")
    return invoke


def test_table_figure_and_csv(run):
    code, out, err = run(
        "curves", "sll", "cpl", "--reference", "SLL", "-o", "c.png", "--csv", "c.csv", "--max-radius", "1.2"
    )
    assert (code, err) == (0, "")
    assert "not certified: epsilon on one side" in out and "Figure: c.png" in out and "Table: c.csv" in out
    assert Path("c.png").read_bytes().startswith(b"\x89PNG")
    kinds = {tuple(line.split(",")[:2]) for line in Path("c.csv").read_text().splitlines()[1:]}
    assert {("sll", "certified"), ("sll", "pgd"), ("cpl", "clean")} <= kinds
    radius, correct = samples(seed=0)
    assert f"{100 * (correct & (radius > 36 / 255)).mean():.2f}" in out


def test_json(run):
    code, out = answer(run, "curves", "sll", "other.csv", "--reference", "SLL:cifar10")
    assert (code, list(out)) == (0, ["curves", "references", "figure", "csv"])
    first, second = out["curves"]
    keys = [
        "name",
        "probability",
        "evaluations",
        "n",
        "clean",
        "certified",
        "certified_with_probability",
        "mean_radius",
        "attacks",
        "broken",
        "data",
    ]
    assert list(first) == list(second) == keys
    assert (first["name"], first["data"], second["data"]) == ("sll", "cifar10", None)
    radius, correct = samples(seed=0)
    assert first["certified"]["36/255"] == (correct & (radius > 36 / 255)).mean()
    assert first["attacks"] == [
        {"attack": "pgd", "eps": 36 / 255, "accuracy": 0.68},
        {"attack": "pgd", "eps": 1.0, "accuracy": 0.4},
    ]
    assert out["references"] and all(row["name"] for row in out["references"])
    assert answer(run, "curves", "broken")[1]["curves"][0]["broken"]


def test_without_output_it_prints_the_table(run):
    code, out, _ = run("curves", "sll")
    assert code == 0 and "mean radius" in out and "-o curves.png" in out
    assert not list(Path().glob("*.png"))


def test_names(run):
    out = run("curves", "sll", "other.csv", "--names", "first, second")[1]
    assert "first" in out and "second" in out and "sll" not in out
    assert "other/sll" in run("curves", "sll", "other/sll")[1]


def test_a_reference_may_name_its_data(run):
    for arguments in (["other.csv"], ["digits"], ["sll", "digits"]):
        code, out, _ = run("curves", *arguments, "--reference", "AOL L:cifar100")
        assert code == 0 and "43.7" in out
    assert run("curves", "sll", "--reference", "AOL", "--reference", "AOL L")[1].count("AOL L: ") == 1


def test_a_broken_certificate_is_said_loudly(run):
    assert "WARNING: pgd leaves broken less than is certified" in run("curves", "broken")[1]


REFUSED = {
    "nothing there": (["none"], "no run or file `none`"),
    "not certified": (["trained"], "Run `sdplip certify trained`"),
    "no samples": (["short"], "`radii.csv`"),
    "damaged result": (["damaged"], "`sdplip certify damaged` again"),
    "another n": (["few"], "about 7 samples"),
    "another table": (["log.csv"], "columns `epoch, loss`"),
    "twice": (["sll", "sll"], "twice"),
    "number of names": (["sll", "cpl", "--names", "a"], "1 names for 2 runs"),
    "same names": (["sll", "cpl", "--names", "a,a"], "same name"),
    "unknown paper": (["sll", "--reference", "SSL"], "Papers with rows"),
    "paper without the data": (["digits", "--reference", "SLL"], "no published row about `digits`"),
    "data unknown": (["other.csv", "--reference", "SLL"], "--reference SLL:cifar10"),
    "suffix": (["sll", "-o", "c.jpg"], "must end in"),
    "folder": (["sll", "-o", "none/c.png"], "does not exist"),
    "radius": (["sll", "-o", "c.png", "--max-radius", "0"], "positive"),
    "radius of no figure": (["sll", "--max-radius", "1"], "Add -o"),
    "one of two": (["sll", "none", "-o", "c.png", "--csv", "c.csv"], "`none`"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_sentence(run, case):
    arguments, reason = REFUSED[case]
    code, out, err = run("curves", *arguments)
    last = err.strip().splitlines()[-1]
    assert (code, out) == (2, "")
    assert last.startswith("Error: ") and reason in last
    assert not list(Path().glob("c.*"))


def test_it_needs_no_torch(run):
    assert run("curves", "sll")[0] == 0
    code = (
        "import sys; from sdplip.cli import main\n"
        "main(['curves', 'sll', '--csv', 'c.csv'], standalone_mode=False)\n"
        "assert not {'torch', 'cvxpy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

"""The quick starts of the README do what they say, in a folder that holds a weight file and nothing else."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tests.commands import invoke

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def quick_start(name):
    """Language and text of a block that is marked by a comment before it."""
    found = re.search(rf"<!-- quick start: {name} -->\n```(\w+)\n(.*?)```", README, re.DOTALL)
    assert found, name
    return found[1], found[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a small network."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez(
        "net.npz", **{f"fc{k}.weight": rng.normal(size=shape) / 2 for k, shape in ((1, (6, 4)), (2, (3, 6)))}
    )
    return tmp_path


def run_commands(text):
    """Every `sdplip ...` line; 1 is the answer "violated" of `check`."""
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    for program, *words in lines:
        code, out, err = invoke(*words)
        assert program == "sdplip" and (code == 0 or (words[0], code) == ("check", 1)), (words, err)
        assert out and not err
    return [words[0] for _, *words in lines]


def test_the_quick_start_of_a_researcher(capsys):
    language, text = quick_start("researcher")
    found = {}
    exec(compile(text, "README.md", "exec"), found)
    assert language == "python" and found["found"].lower <= found["found"].bound
    printed = capsys.readouterr().out
    assert str(found["found"].bound) in printed and "head" in printed


def test_the_quick_starts_of_an_engineer_and_a_reviewer(folder, capsys):
    language, text = quick_start("engineer")
    assert language == "sh" and run_commands(text) == ["check", "compare", "bound", "bound", "scale"]
    assert {"compare.png", "bounds.png", "proof.json", "scaled.npz"} <= {p.name for p in folder.iterdir()}
    found = {}
    exec(compile(quick_start("reviewer")[1], "README.md", "exec"), found)
    printed = capsys.readouterr().out
    assert found["verdict"].claims and printed.splitlines()[-2].startswith("True ")
    assert "proof" in printed.splitlines()[-1], "The forgery is refuted, with the reason."


SECTIONS = ["A scaling", "A solver", "A layer and its rule", "A reader", "A loss"]


@pytest.mark.parametrize("section", SECTIONS)
def test_the_examples_of_extending_run(section, capsys):
    page = (ROOT / "docs" / "extending.md").read_text()
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == SECTIONS
    (text,) = re.findall(
        r"```python\n(.*?)```", page.split(f"## {section}\n")[1].split("\n## ")[0], re.DOTALL
    )
    found = {}
    exec(compile(text, "extending.md", "exec"), found)
    printed = capsys.readouterr().out.split()
    if section == "A scaling":
        c = {name: float(c) for name, _, c in zip(printed[::3], printed[1::3], printed[2::3], strict=True)}
        assert c["frobenius"] <= 1 and {"aol", "min_trace"} <= set(c)
    elif section == "A solver":
        assert 0 <= float(printed[0]) <= float(printed[1]), "Half of AOL is repaired."
    elif section == "A layer and its rule":
        assert "mean of 1 and the inner bound" in " ".join(printed)
    elif section == "A reader":
        J = np.array([[1.0, 2], [3, 4], [5, 6]]).sum(0)
        assert (
            np.linalg.norm(J) <= float(printed[0]) <= np.sqrt(3) * np.linalg.norm([[1, 2], [3, 4], [5, 6]], 2)
        )
    else:
        assert found["SquaredRadius"]()(*loss_at(9.0)) == 0 < found["SquaredRadius"]()(*loss_at(0.1))


def loss_at(margin):
    """Right predictions by a margin, for a loss."""
    import torch

    from sdplip.nn.losses import LossContext

    return margin * torch.eye(3), torch.arange(3), LossContext(pairwise=2**0.5 * (1 - torch.eye(3)))


def test_every_extra_is_explained_and_every_link_leads_somewhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs" / "install.md").read_text()
    for extra in project["optional-dependencies"]:
        assert f"| `{extra}` |" in page, extra
    for package in project["dependencies"]:
        assert re.match(r"[\w-]+", package)[0] in page, package
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text()):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            assert target.startswith("https://") or (ROOT / target).exists(), target


def test_notebooks_are_stored_without_outputs():
    """They run when the site is built; `docs/check_site.py` looks at what came out."""
    notebooks = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
    assert len(notebooks) == 3
    for path in notebooks:
        cells = json.loads(path.read_text())["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert code and not any(cell["outputs"] or cell["execution_count"] for cell in code), path.name
        assert f"\n{path.stem}\n" in (path.parent / "index.md").read_text()

"""The gallery: every script runs reduced and computes what it expects; every script has its picture, its section, its command."""

import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
GALLERY, PICTURES = ROOT / "examples" / "gallery", ROOT / "docs" / "figures" / "gallery"
SCRIPTS = sorted(path.stem for path in GALLERY.glob("*.py") if path.stem != "exhibit")
LINES, BYTES = 100, 120_000


@pytest.fixture
def script(monkeypatch):
    """Imports a script of the folder as Python finds it when it is run: the folder first."""
    monkeypatch.syspath_prepend(str(GALLERY))

    def of(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if str(error.name).startswith(("sdplip", "exhibit")):
                raise
            pytest.skip(f"{name}.py needs {error.name}: pip install 'sdplip[demo]'")

    return of


def sections():
    """The page, section by section: a script's name, and what is said of it."""
    page = (ROOT / "docs" / "gallery.md").read_text()
    found = {}
    for text in page.split("\n## ")[1:]:
        commands = re.findall(r"^python examples/gallery/(\w+)\.py$", text, re.M)
        assert len(commands) == 1, f"One command a section: {text.splitlines()[0]}"
        found[commands[0]] = text
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_computes_what_it_expects(name, script):
    found, exhibit = script(name), script("exhibit")
    state = torch.get_rng_state()
    try:
        computed, expected = found.main(quick=True)
    finally:
        torch.set_rng_state(state)
    assert exhibit.named(expected), "Nothing is expected."
    assert exhibit.agree(computed, expected, found.TOLERANCE), (computed, expected)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_its_section_and_its_picture(name):
    text = sections()[name]
    assert f"(figures/gallery/{name}.png)" in text
    assert re.search(r"^\*\*Proven:\*\* \S", text, re.M), (
        "The proven sentence: a line that starts with **Proven:**"
    )
    assert re.search(r"^CPU time: \d+ s\.", text, re.M), "Run `python docs/gallery_figures.py`."
    for path in (PICTURES / f"{name}.png", PICTURES / "thumbs" / f"{name}.png"):
        assert path.stat().st_size < BYTES, path
    with Image.open(PICTURES / "thumbs" / f"{name}.png") as thumb:
        assert thumb.size == (360, 240)


def test_nothing_in_the_gallery_is_without_its_script():
    assert set(sections()) == set(SCRIPTS)
    assert {path.stem for path in PICTURES.rglob("*.png")} == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_short_and_says_what_it_is(name):
    """Without blank lines and the text at its head."""
    _, head, code = (GALLERY / f"{name}.py").read_text().split('"""', 2)
    assert head.strip() and sum(bool(line.strip()) for line in code.splitlines()) < LINES


def test_disagreement_is_seen(script, tmp_path, monkeypatch, capsys):
    """Far off, missing or NaN is no agreement, and the command line says so after its figure."""
    exhibit = script("exhibit")
    assert exhibit.agree({"a": 1.0}, {"a": 1.25}, 0.25) and not exhibit.agree({"a": 1.0}, {"a": 1.25}, 0.2)
    assert not exhibit.agree({}, {"a": 1.0}, 9.0) and not exhibit.agree(np.nan, 1.0, 9.0)
    (tmp_path / "off.py").write_text(
        '"""Says two."""\nfrom exhibit import panels, save, show\n\ndef main(quick=False, out=None):\n'
        "    figure, _ = panels()\n    save(figure, out, __file__)\n    return 2.0, 1.0 if quick else 2.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    main = importlib.import_module("off").main
    assert list(inspect.signature(main).parameters) == ["quick", "out"]
    monkeypatch.setattr("sys.argv", ["off.py", "--out", str(tmp_path)])
    exhibit.show(main, 0.5)
    assert "number: 2 (expected 2, up to 0.5)" in capsys.readouterr().out
    with Image.open(tmp_path / "off.png") as picture:
        assert picture.convert("RGB").getpixel((0, 0)) == pytest.approx((0xFB, 0xFA, 0xF6), abs=1)
    monkeypatch.setattr("sys.argv", ["off.py", "--quick", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="disagree"):
        exhibit.show(main, 0.5)

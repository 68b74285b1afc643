"""What the documentation quotes is what the commands print."""

import re
import runpy
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from sdplip.kernel.rules import RULES
from sdplip.training.run import RunSummary
from tests import test_cli_bound, test_cli_certify, test_cli_tighten

DOCS = Path(__file__).parents[1] / "docs"


def test_the_help_texts_are_those_of_the_commands():
    blocks = runpy.run_path(str(DOCS / "help_blocks.py"))
    page = (DOCS / "cli.md").read_text()
    assert page.count("--help\n") >= 10
    assert blocks["renewed"](page) == page, "Run `python docs/help_blocks.py`."


def test_the_operator_tables_are_those_of_the_code():
    tables = runpy.run_path(str(DOCS / "operator_tables.py"))
    page = (DOCS / "onnx.md").read_text()
    assert "| Gemm |" in page and tables["renewed"](page) == page, "Run `python docs/operator_tables.py`."


def figures(page):
    """Numbers and names of files in the tables of a page."""
    return re.findall(r"[\d,]+|`\S+`", "\n".join(row for row in page.splitlines() if row.startswith("|")))


def test_the_tables_of_what_must_be_trusted_are_those_of_the_code():
    """Up to three percent, so that a changed line asks for no new table; and what every proof uses stays small."""
    lines = runpy.run_path(str(DOCS / "kernel_lines.py"))
    for name, tables in lines["PAGES"].items():
        page = (DOCS / name).read_text()
        said, true = figures(page), figures(lines["renewed"](page, tables))
        assert len(said) == len(true), "Run `python docs/kernel_lines.py`."
        for a, b in zip(said, true, strict=True):
            if a != b:
                a, b = (int(number.replace(",", "")) for number in (a, b))
                assert abs(a - b) <= max(10, 0.03 * b), (
                    f"{a} is said, {b} are: run `python docs/kernel_lines.py`."
                )
    assert lines["total"](lines["files"](lines["CORE"]))[0] < 300
    every = {path for _, now in lines["ROOMS"].values() for path in lines["files"](now)}
    rooms = [
        p for room in ("arithmetic", "kernel", "verifier") for p in (lines["HOUSE"] / room).rglob("*.py")
    ]
    assert not set(rooms) - every, "Files that no subject counts."


def test_every_rule_has_its_derivation():
    page = (DOCS / "proofs.md").read_text()
    for name, rule in RULES.items():
        text = sys.modules[rule.__module__].__doc__ or ""
        assert f"automodule:: {rule.__module__}\n" in page, name
        assert f"Rule `{name}`" in text and re.search(r"Data:|No data", text), name


def documented(command):
    """Keys that the page on the command line says of the JSON of a command, in order."""
    page = (DOCS / "cli.md").read_text()
    bullets = page.split("## JSON")[1].split("## Exit codes")[0].split("\n- ")
    (bullet,) = [text for text in bullets if text.startswith(f"{command}: ")]
    first = bullet.partition("}`")[0]  # the object itself
    return re.findall(r'"(\w+)"', first)


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("bound", [*test_cli_bound.KEYS, *test_cli_bound.WORDS]),
        ("tighten", test_cli_tighten.KEYS),
        ("train", [field.name for field in fields(RunSummary)]),
    ],
)
def test_the_json_keys_are_documented(command, keys):
    assert documented(command) == list(keys)


def test_the_json_keys_of_certify_are_documented():
    assert [key for key in documented("certify") if key != "pgd"] == test_cli_certify.KEYS

"""What the documentation quotes is what the commands print."""

import re
import runpy
from dataclasses import fields
from pathlib import Path

import pytest

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

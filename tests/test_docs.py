"""What the documentation quotes is what the commands print."""

import runpy
from pathlib import Path

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

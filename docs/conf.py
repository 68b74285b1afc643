"""Sphinx configuration: Markdown pages by MyST, the furo theme, API pages from docstrings."""

import re
from importlib.metadata import version as installed

project = "sdplip"
author = "The sdplip authors"
copyright = "2026, the sdplip authors"
version = release = installed("sdplip")

default_role = "py:obj"  # links where the reference has the name, code everywhere
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # the formulas of the site need no network
]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
html_theme = "furo"
html_title = "sdplip"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autosummary_generate = False
suppress_warnings = ["ref.python"]  # two classes are named Method: an annotation links to the first
python_maximum_signature_line_length = 88
autodoc_member_order = "bysource"
napoleon_attr_annotations = False  # shapes such as "out in *taps" are not reStructuredText


def dollars_to_math(_app, _what, _name, _object, _options, lines: list[str]) -> None:
    """Docstrings write formulas between dollars, as the pages do; reStructuredText wants a role or a directive."""
    text = "\n".join(lines)
    text = re.sub(r"\$\$(.+?)\$\$", _block, text, flags=re.S)
    text = re.sub(r"\$([^$`]+?)\$", lambda m: f":math:`{' '.join(m[1].split())}`\\ ", text)
    lines[:] = text.split("\n")


def _block(found: re.Match[str]) -> str:
    body = "\n".join("   " + line.strip() for line in found[1].strip().splitlines())
    return f"\n.. math::\n\n{body}\n"


def setup(app) -> None:
    app.connect("autodoc-process-docstring", dollars_to_math)

"""Sphinx configuration: Markdown pages by MyST, the furo theme, API pages from docstrings."""

import os
import re
import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).parent
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
exclude_patterns = ["_build", "static", "jupyter_execute", "**.ipynb_checkpoints"]
nb_execution_mode = "auto"  # notebooks are stored without outputs, so all of them run
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
os.environ |= {"COLUMNS": "80", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # of their kernels
os.environ["PATH"] = os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ["PATH"]]
)  # `sdplip` in their shells
html_theme = "furo"
html_title = "sdplip"
html_static_path = ["static"]
html_css_files = ["site.css"]
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


def gallery_to_pictures(_app, name: str, source: list[str]) -> None:
    """The landing page shows every small picture of the gallery, with a link to its section there."""
    if name != "index":
        return
    page = (HERE / "gallery.md").read_text()
    shown = []
    for picture in sorted((HERE / "figures" / "gallery" / "thumbs").glob("*.png")):
        before = page.partition(f"(figures/gallery/{picture.name})")[0]
        if before != page:
            title = re.findall(r"^## (.*)$", before, re.MULTILINE)[-1]
            anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            shown.append(f"[![{title}](figures/gallery/thumbs/{picture.name})](gallery.md#{anchor})")
    assert shown, "docs/figures/gallery/thumbs has no picture that the gallery shows"
    source[0] = source[0].replace("<!-- gallery -->", "\n".join(["```{container} gallery", *shown, "```"]))


def setup(app) -> None:
    app.connect("source-read", gallery_to_pictures)
    app.connect("autodoc-process-docstring", dollars_to_math)

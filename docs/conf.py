"""Sphinx configuration: Markdown pages by MyST, the furo theme, API pages from docstrings."""

from importlib.metadata import version as installed

project = "sdplip"
author = "The sdplip authors"
copyright = "2026, the sdplip authors"
version = release = installed("sdplip")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "sdplip"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_mock_imports: list[str] = []
napoleon_google_docstring = True

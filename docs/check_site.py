"""What must hold of the built site: `python docs/check_site.py FOLDER`, after `sphinx-build`.

It needs no network, its reference has every public name, its search finds what people ask for, its notebooks ran, and its formulas
are drawn (asked of a headless Chromium, where there is one).
"""

import inspect
import json
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

SEARCHES = {
    "spectral norm": "glossary",
    "certified radius": "glossary",
    "convolution padding": "api/convolution",
}
"""What people type, and a page that must be among the answers."""
FORMULAS = "proofs"
"""A page with many formulas."""
OUTSIDE = re.compile(
    r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=["'](?:https?:)?//[^"']*""", re.IGNORECASE
)
IMPORTED = re.compile(r"""@import[^;]*//|url\(["']?(?:https?:)?//""")


def outside(site: Path) -> Iterator[str]:
    """Scripts, styles, images that a browser would fetch from elsewhere."""
    for page in site.rglob("*.html"):
        yield from (f"{page.relative_to(site)}: {found}" for found in OUTSIDE.findall(page.read_text()))
    for style in site.rglob("*.css"):
        yield from (f"{style.relative_to(site)}: {found}" for found in IMPORTED.findall(style.read_text()))


def public_modules() -> list[ModuleType]:
    """Every package and module of sdplip that says what is public, the command line apart."""
    home = Path(inspect.getfile(import_module("sdplip"))).parent
    found = []
    for path in sorted(home.rglob("*.py")):
        if re.search(r"^__all__ = ", path.read_text(), re.MULTILINE) and "cli" not in path.parts:
            parts = path.relative_to(home.parent).with_suffix("").parts
            found.append(import_module(".".join(p for p in parts if p != "__init__")))
    return found


def resolved(name: str) -> object | None:
    """The object of a dotted name; None where the name leads nowhere."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            value: object = import_module(".".join(parts[:k]))
        except ImportError:
            continue
        for part in parts[k:]:
            value = getattr(value, part, None)
        return value
    return None


def missing(names: set[str]) -> Iterator[str]:
    """Public names that a reference with these names lacks, under any of the names that an object has."""
    described = {id(value) for name in names if (value := resolved(name)) is not None}
    for module in public_modules():
        for name in module.__all__:
            full = f"{module.__name__}.{name}"
            if full not in names and id(getattr(module, name)) not in described:
                yield full


def inventory(site: Path) -> set[str]:
    """Every Python name that the reference describes."""
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]  # four lines of plain text stand before
    lines = zlib.decompress(packed).decode().splitlines()
    return {line.split(" ")[0] for line in lines if line.split(" ")[1].startswith("py:")}


def answers(site: Path, query: str) -> set[str]:
    """Pages in whose text or title every word of the query stands, by the site's own index."""
    from sphinx.search.en import SearchEnglish

    text = (site / "searchindex.js").read_text()
    index = json.loads(text[text.index("{") : text.rindex("}") + 1])
    stem = SearchEnglish({}).stem
    pages: set[int] | None = None
    for word in query.split():
        found: set[int] = set()
        for table in ("terms", "titleterms"):
            where = index[table].get(stem(word), [])
            found |= {where} if isinstance(where, int) else set(where)
        pages = found if pages is None else pages & found
    return {index["docnames"][k] for k in pages or ()}


def not_drawn(site: Path, browser: str) -> Iterator[str]:
    """Formulas that a browser without a network does not draw."""
    page = site / f"{FORMULAS}.html"
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    dom = subprocess.run(
        [*command, "--virtual-time-budget=20000", "--dump-dom", page.resolve().as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    written, drawn = len(re.findall(r'class="math ', page.read_text())), dom.count("<mjx-container")
    if not written or drawn < written:
        yield f"{FORMULAS}.html: {drawn} of {written} formulas are drawn."
    if "<mjx-merror" in dom:
        yield f"{FORMULAS}.html: a formula is not understood."


def complaints(site: Path) -> Iterator[str]:
    """Everything that does not hold, in a sentence each."""
    yield from (f"From the network: {found}" for found in outside(site))
    yield from (f"Not in the reference: {name}" for name in missing(inventory(site)))
    for query, page in SEARCHES.items():
        if page not in answers(site, query):
            yield f"The search for '{query}' does not find {page}."
    for notebook in sorted((site / "notebooks").glob("*.html")):
        if notebook.stem != "index" and "cell_output" not in notebook.read_text():
            yield f"{notebook.name} was not executed."
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser:
        yield from not_drawn(site, browser)
    else:
        print("No browser here: that formulas are drawn was not looked at.")


if __name__ == "__main__":
    found = list(complaints(Path(sys.argv[1])))
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))

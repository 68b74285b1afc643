"""What the documentation quotes is what the commands print."""

import json
import re
import runpy
import sys
from importlib import import_module
from pathlib import Path

import pytest

from sdplip.cli import main
from sdplip.kernel.rules import RULES
from tests.forge.honest import every_case

DOCS = Path(__file__).parents[1] / "docs"
SITE = runpy.run_path(str(DOCS / "check_site.py"))


def test_the_help_texts_are_those_of_the_commands():
    blocks = runpy.run_path(str(DOCS / "help_blocks.py"))
    for path in blocks["PAGES"]:
        assert blocks["renewed"](path.read_text()) == path.read_text(), (
            f"{path.name}: run `python docs/help_blocks.py`."
        )
    for name in main.commands:
        page = (DOCS / "commands" / f"{name}.md").read_text()
        assert f"$ sdplip {name} --help\nUsage: sdplip {name} " in page
        assert f"commands/{name}\n" in (DOCS / "cli.md").read_text()


DIRECTIVE = re.compile(r"^\.\. (?:auto|py:)(\w+):: ([\w.]+)(?:\(.*)?\n((?:   :.*\n)*)", re.MULTILINE)


def described():
    """Names that the pages of the reference ask to have described; `docs/check_site.py` looks at the built ones."""
    names = set()
    for path in (DOCS / "api").glob("*.md"):
        for kind, name, options in DIRECTIVE.findall(path.read_text()):
            if kind != "module":
                names.add(name)
                continue
            module = import_module(name)
            members = getattr(module, "__all__", vars(module)) if ":members:" in options else ()
            for member in set(members) & set(dir(module)):  # Sphinx does not see what is loaded later
                local = getattr(getattr(module, member), "__module__", name) == name
                if local or hasattr(module, "__all__"):
                    names.add(f"{name}.{member}")
    return names


def test_the_reference_has_every_public_name():
    """`lipschitz`, `bound` and the others first, and every `__all__`."""
    names = described()
    index = (DOCS / "api" / "index.md").read_text()
    first = re.findall(r"autofunction:: sdplip\.(\w+)", index)[:6]
    assert first == ["lipschitz", "bound", "train", "check", "compare", "certify_accuracy"]
    assert not list(SITE["missing"](names))
    assert "sdplip.nn.MaxMin" in set(SITE["missing"](names - {"sdplip.nn.MaxMin"})), "The check can fail."


def test_every_page_of_the_reference_is_listed():
    index = (DOCS / "api" / "index.md").read_text()
    for path in (DOCS / "api").glob("*.md"):
        assert path.stem == "index" or f"\n{path.stem}\n" in index


def test_the_operator_tables_are_those_of_the_code():
    tables = runpy.run_path(str(DOCS / "operator_tables.py"))
    page = (DOCS / "onnx.md").read_text()
    assert "| Gemm |" in page and tables["renewed"](page) == page, "Run `python docs/operator_tables.py`."


def figures(page):
    """Numbers and names of files in the tables of a page."""
    return re.findall(r"[\d,]+|`\S+`", "\n".join(row for row in page.splitlines() if row.startswith("|")))


def test_the_tables_of_families_are_those_of_their_rows(monkeypatch):
    examples = DOCS.parent / "examples"
    monkeypatch.syspath_prepend(str(examples))
    families = runpy.run_path(str(examples / "families.py"))
    page = (DOCS / "results.md").read_text()
    rows = families["read"](families["ROWS"])
    assert sum("test" in row for row in rows) >= 3, "The rows are missing."
    assert families["renewed"](page, rows) == page, "Run `python examples/families.py table`."


def test_the_table_of_balls_is_that_of_its_rows(monkeypatch):
    benchmarks = DOCS.parent / "benchmarks"
    monkeypatch.syspath_prepend(str(benchmarks))
    balls = runpy.run_path(str(benchmarks / "local_l2.py"))
    page, rows = (DOCS / "benchmarks.md").read_text(), balls["read"](balls["ROWS"])
    images = [(row["network"], row["image"]) for row in rows if "image" in row]
    assert len(images) >= 50 and len(set(images)) == len(images), "Rows are missing, or stand twice."
    assert balls["renewed"](page, rows) == page, "Run `python benchmarks/local_l2.py page`."


def test_the_tables_over_seeds_are_those_of_their_rows(monkeypatch):
    examples = DOCS.parent / "examples"
    monkeypatch.syspath_prepend(str(examples))
    seeds = runpy.run_path(str(examples / "results_seeds.py"))
    page, rows = (DOCS / "results.md").read_text(), DOCS / "results"
    assert list(rows.glob("seeds_*.json")) and seeds["renewed"](page, rows) == page, (
        "Run `python examples/results_seeds.py FOLDER page`."
    )


@pytest.mark.parametrize(("script", "page"), [("reach", "results.md"), ("muon_residual", "training.md")])
def test_the_tables_of_trained_networks_are_those_of_their_rows(script, page, monkeypatch):
    """And no certified share lies above the clean one."""
    examples = DOCS.parent / "examples"
    monkeypatch.syspath_prepend(str(examples))
    namespace = runpy.run_path(str(examples / f"{script}.py"))
    rows, text = json.loads(namespace["ROWS"].read_text()), (DOCS / page).read_text()
    assert len(rows) >= 3 and namespace["renewed"](text, rows) == text, f"Run `python examples/{script}.py`."
    for run in rows if script == "muon_residual" else rows["mnist"]["search"]:
        assert 0 < run["certified"] < run["clean"] < 1


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


def test_the_json_keys_are_those_of_the_code():
    section = runpy.run_path(str(DOCS / "json_keys.py"))
    page = (DOCS / "cli.md").read_text()
    assert "| `bound` | number" in page and section["renewed"](page) == page, (
        "Run `python docs/json_keys.py`."
    )


def test_every_command_that_prints_json_has_its_keys():
    from sdplip.cli.keys import DOCUMENTS, FAILURE, HEAD, KEYS, Node, schema

    with_json = {name for name, one in main.commands.items() if any(p.name == "as_json" for p in one.params)}
    assert set(DOCUMENTS) == with_json

    def names(parts):
        for part in parts:
            yield part if isinstance(part, str) else None
            if isinstance(part, Node) and part.how in ("many", "one"):
                yield from names(part.parts)

    used = {name for parts in (*DOCUMENTS.values(), FAILURE, HEAD) for name in names(parts)} - {None}
    assert used == set(KEYS), "Keys that no document has, or that are not described."
    assert all(schema(command)["required"][:2] == ["command", "schema"] for command in DOCUMENTS)


def test_the_schema_files_are_those_of_the_code():
    """Real answers are held against them by `tests.commands.answer`, wherever a test asks a command."""
    files = runpy.run_path(str(DOCS / "schema_files.py"))["files"]()
    assert len(files) >= 11
    page = (DOCS / "schemas.md").read_text()
    for name, text in files.items():
        assert (DOCS / "schemas" / name).read_text() == text, "Run `python docs/schema_files.py`."
        assert f"(schemas/{name})" in page


def test_certificates_are_of_their_schema(tmp_path):
    """An honest one of every kind and rule; and fields that are missing, unknown or of another type are found."""
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    schema = json.loads((DOCS / "schemas" / "certificate.json").read_text())
    validator.check_schema(schema)
    held = validator(schema)
    kinds = set()
    for case in every_case(tmp_path):
        document = case.document
        assert not [error.message for error in held.iter_errors(document)], case.kind
        claim = document["claims"][0]["claim"]
        kinds.add(claim["kind"])
        for key in claim:
            wrong = {k: v for k, v in claim.items() if k != key}
            for body in (wrong, {**wrong, f"{key}2": claim[key]}, {**claim, key: "x"}):
                if body != claim and not (key == "layer" and body.get(key) == "x"):
                    assert not held.is_valid(
                        {**document, "claims": [{**document["claims"][0], "claim": body}]}
                    )
    assert kinds == {"lipschitz", "condition", "accuracy", "pixels", "expansion"}


def test_a_site_that_needs_the_network_is_found(tmp_path):
    """`docs/check_site.py`, which `make docs` asks about the built site."""
    page = tmp_path / "index.html"
    page.write_text(
        '<a href="https://example.org">a link</a><img src="local.png"><script src="_static/m.js">'
    )
    assert not list(SITE["outside"](tmp_path))
    for part in ('<script src="https://cdn.example.org/m.js">', '<link rel="x" href="//fonts.example.org">'):
        page.write_text(part)
        assert len(list(SITE["outside"](tmp_path))) == 1
    page.write_text("")
    (tmp_path / "a.css").write_text('@import url("https://example.org/b.css");')
    assert len(list(SITE["outside"](tmp_path))) == 1


def test_the_search_is_asked_as_a_person_does(tmp_path):
    index = {
        "docnames": ["glossary", "cli"],
        "terms": {"spectral": [0, 1], "norm": 0},
        "titleterms": {"norm": [0]},
    }
    (tmp_path / "searchindex.js").write_text(f"Search.setIndex({json.dumps(index)})")
    pytest.importorskip("sphinx")
    assert SITE["answers"](tmp_path, "spectral norm") == {"glossary"}
    assert SITE["answers"](tmp_path, "spectral") == {"glossary", "cli"}
    assert not SITE["answers"](tmp_path, "spectral radius")


SAID = """ layer   interval of c    verdict    seconds
 ──────────────────────────────────────────
 fc1     [1.2, 1.30001]   violated     0.015

Found in 0.2 s: at most 31.5035069."""


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (("0.015", "7.5"), True),
        (("0.2 s", "3 s"), True),
        (("31.5035069", "31.5035070"), True),
        (("31.5035069", "31.6"), False),
        (("1.30001", "1.4"), False),
        (("violated", "satisfied"), False),
        (("\n\nFound", "\n fc2     [1.2, 1.30001]   violated     0.015\n\nFound"), False),
    ],
)
def test_sample_outputs_are_compared_up_to_seconds(change, same):
    """`make docs` runs every sample output of the documentation again and compares it like this."""
    differs = runpy.run_path(str(DOCS / "console_blocks.py"))["differs"]
    assert (differs(SAID, SAID.replace(*change)) is None) == same


def test_the_table_of_pairs_is_that_of_its_rows(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS.parent / "benchmarks"))
    pairs = runpy.run_path(str(DOCS.parent / "benchmarks" / "pairs.py"))
    rows, page = pairs["rows_of"](pairs["ROWS"]), pairs["PAGE"].read_text()
    assert len(rows) >= 15 and len({cells[0] for cells in rows}) == len(rows)
    assert pairs["renewed"](page, rows) == page, "Run `python benchmarks/pairs.py --page`."
    for cells in rows:
        bounds = dict(zip(pairs["HEAD"], cells, strict=True))
        assert float(bounds["Jacobian"] or 0) <= float(bounds["pairs"]) <= float(bounds["lipsdp-neuron"])

"""The tables of what must be trusted, counted anew: `python docs/kernel_lines.py [--before CHECKOUT]`.

Lines are all lines of a file; lines of code are those without docstrings, comments and blank ones. `BEFORE` holds what 21aeb65 had;
`--before` counts it again in a checkout of that commit.
"""

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

DOCS = Path(__file__).parent
HOUSE = DOCS.parent / "sdplip"
PAGES = {"architecture.md": ("rooms",), "proofs.md": ("core", "rules")}

CORE = (
    "kernel/check.py",
    "kernel/proof.py",
    "kernel/rules/__init__.py",
    "kernel/data.py",
    "kernel/subnormal.py",
    "arithmetic/rounding.py",
)
"""What every proof uses."""
PROVER = ("arithmetic/matrix.py", "arithmetic/powers.py", "arithmetic/semidefinite.py")
"""The midpoint-radius matrix, and the one prover of semidefiniteness."""

GLOBAL = "chain composite narrow joint equilibrium pairwise folded banded frequency layers norm closed residual rounded rows __init__"
ROOMS = {
    "arithmetic": (
        "rounding arrow definite twiddle functions witness",
        ["arithmetic/*.py"],
    ),
    "one layer": (
        "dense convolution image symbol optimum residual certificate validate",
        ["kernel/condition/*.py"],
    ),
    "rules for all inputs": (
        "narrow composite bands increments metrics trunk strip system system_proof network parts",
        [f"kernel/rules/{name}.py" for name in GLOBAL.split()]
        + [
            f"kernel/{name}.py"
            for name in [
                "check",
                "proof",
                "data",
                "subnormal",
                "surgery",
                "spectral",
                "linear",
                "stages",
                "metrics",
            ]
        ]
        + [
            f"kernel/{name}.py"
            for name in ["maxima", "system", "expansion", "strip", "stationary", "frequencies", "__init__"]
        ],
    ),
    "regions": (
        "region regions crown zonotope centred",
        [
            "kernel/regions.py",
            "kernel/hinges.py",
            "kernel/sides.py",
            "kernel/witness.py",
            "kernel/reach/*.py",
            "kernel/centred/*.py",
            "kernel/spread/*.py",
        ]
        + [f"kernel/rules/{name}.py" for name in ("cut", "local", "patterns", "secants")],
    ),
    "images and forward passes": (
        "../robustness/radii ../robustness/radii_proof",
        [f"kernel/{name}.py" for name in ("accuracy", "around", "evaluate", "implicit", "passes", "pixels")],
    ),
    "claims and certificate files": (
        "document file network_file rows_file parts_file radii_file pieces_file system_file __init__",
        ["verifier/*.py"],
    ),
    "networks as data": (
        "../networks/chain ../networks/convolution ../networks/diagonal ../networks/difference ../networks/groupsort"
        " ../networks/images ../networks/linear ../networks/network ../networks/parts ../networks/pooling ../networks/residual"
        " ../networks/segments ../networks/slopes ../networks/system ../networks/trail ../networks/trunk ../networks/__init__",
        ["network/*.py", "network/operators/*.py"],
    ),
}
"""By subject: files at 21aeb65, from `certificates/`, and where that stands now."""
BEFORE = {
    "arithmetic": (456, 296),
    "one layer": (1166, 809),
    "rules for all inputs": (1921, 1288),
    "regions": (986, 682),
    "images and forward passes": (224, 143),
    "claims and certificate files": (1353, 933),
    "networks as data": (1468, 984),
}


def counted(path: Path) -> tuple[int, int]:
    """Lines, and lines of code, of a file."""
    text = path.read_text(encoding="utf-8")
    told = set[int]()
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            told |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    silent = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    code = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            code |= set(range(token.start[0], token.end[0] + 1))
    return text.count("\n"), len(code - told)


def total(paths: list[Path]) -> tuple[int, int]:
    """Of several files."""
    found = [counted(path) for path in paths]
    return sum(lines for lines, _ in found), sum(code for _, code in found)


def files(patterns: list[str] | tuple[str, ...], house: Path = HOUSE) -> list[Path]:
    """The files that patterns name, each once."""
    return sorted({path for pattern in patterns for path in house.glob(pattern)})


def needed(path: Path, found: set[Path] | None = None) -> set[Path]:
    """The files of kernel and arithmetic that a file imports, itself included, and what those import."""
    found = set() if found is None else found
    if path in found:
        return found
    found.add(path)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(
            ("sdplip.kernel", "sdplip.arithmetic")
        ):
            continue
        here = HOUSE.joinpath(*(node.module or "").split(".")[1:])
        inner = [here / f"{name.name}.py" for name in node.names if (here / f"{name.name}.py").is_file()]
        for each in inner or [
            here.with_suffix(".py") if here.with_suffix(".py").is_file() else here / "__init__.py"
        ]:
            needed(each, found)
    return found


def rooms() -> str:
    """By subject, before and after."""
    rows, sums = (
        ["| subject | before: lines | code | now: lines | code |", "|---|---|---|---|---|"],
        [0, 0, 0, 0],
    )
    for subject, (_, now) in ROOMS.items():
        numbers = [*BEFORE[subject], *total(files(now))]
        sums = [a + b for a, b in zip(sums, numbers, strict=True)]
        rows.append(f"| {subject} | " + " | ".join(f"{n:,}" for n in numbers) + " |")
    rows.append("| **all** | " + " | ".join(f"**{n:,}**" for n in sums) + " |")
    return "\n".join(rows)


def core() -> str:
    """The part that every proof uses, and the prover."""
    rows = ["| file | lines | code |", "|---|---|---|"]
    for title, names in (("**every proof**", CORE), ("**matrices and the prover**", PROVER)):
        for name in names:
            lines, code = counted(HOUSE / name)
            rows.append(f"| `{name}` | {lines:,} | {code:,} |")
        lines, code = total(files(names))
        rows.append(f"| {title} | **{lines:,}** | **{code:,}** |")
    return "\n".join(rows)


def rules() -> str:
    """What each rule rests on: its own file, and all that it imports of kernel and arithmetic."""
    rows = ["| rule | its file | with all that it imports | of that code |", "|---|---|---|---|"]
    for path in sorted((HOUSE / "kernel" / "rules").glob("*.py")):
        if path.stem not in ("__init__", "closed"):
            lines, code = total(sorted(needed(path)))
            rows.append(f"| `{path.stem}` | {counted(path)[0]:,} | {lines:,} | {code:,} |")
    return "\n".join(rows)


def renewed(page: str, names: tuple[str, ...]) -> str:
    """The page with these tables as the code has them."""
    for name in names:
        table = {"rooms": rooms, "core": core, "rules": rules}[name]()
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)"
        page = re.sub(
            pattern, lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", page, flags=re.S
        )
    return page


def before(checkout: Path) -> dict[str, tuple[int, int]]:
    """`BEFORE`, counted."""
    house = checkout / "sdplip" / "certificates"
    return {
        subject: total([house / f"{name}.py" for name in old.split()]) for subject, (old, _) in ROOMS.items()
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--before"]:
        print(before(Path(sys.argv[2])))
    else:
        for name, tables in PAGES.items():
            (DOCS / name).write_text(renewed((DOCS / name).read_text(), tables))

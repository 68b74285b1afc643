"""The section of docs/cli.md on what `--json` prints, written anew from `sdplip.cli.keys`: `python docs/json_keys.py`."""

import re
from pathlib import Path

from sdplip.cli.keys import DOCUMENTS, FAILURE, KEYS, PRESETS, Node, Parts

PAGE = Path(__file__).parent / "cli.md"
BRACKETS = {"many": ("[{", "}]"), "one": ("{", "}"), "map": ("{radius: ", "}"), "list": ("[", "]")}


def shape(parts: Parts) -> str:
    """The keys of an object, in order, those of its parts in brackets."""
    return ", ".join(part if isinstance(part, str) else _node(part) for part in parts)


def _node(node: Node) -> str:
    if node.how not in ("many", "one"):
        return node.name
    before, after = BRACKETS[node.how]
    return f"{node.name}: {before}{shape(node.parts)}{after}"


def nodes(parts: Parts) -> dict[str, tuple[str, str]]:
    """Kind and meaning of every key with parts."""
    found: dict[str, tuple[str, str]] = {}
    for part in parts:
        if isinstance(part, Node):
            kind = {"many": "array", "list": "array", "any": "any"}.get(part.how, "object")
            if part.text:
                found.setdefault(part.name, (kind + (" or null" if part.null else ""), part.text))
            if part.how in ("many", "one"):
                for name, said in nodes(part.parts).items():
                    found.setdefault(name, said)
    return found


def section() -> str:
    """The documents, and a table of all keys."""
    lines = [f"- {command}: `{{{shape(parts)}}}`" for command, parts in DOCUMENTS.items()]
    lines.append(f"- a failure of any command: `{{{shape(FAILURE)}}}`")
    lines.append(f"- `train --list-presets`: `{{{shape(PRESETS)}}}`")
    lines += ["", "| key | type | meaning |", "|---|---|---|"]
    for name, key in KEYS.items():
        lines.append(f"| `{name}` | {key.type}{' or null' if key.null else ''} | {key.text} |")
    for name, (kind, text) in nodes(
        [part for parts in (*DOCUMENTS.values(), PRESETS) for part in parts]
    ).items():
        lines.append(f"| `{name}` | {kind} | {text} |")
    return "\n".join(lines)


def renewed(page: str) -> str:
    """The page with that section as the code has it."""
    pattern = r"(<!-- json -->\n).*?(<!-- end json -->)"
    return re.sub(pattern, lambda found: f"{found[1]}\n{section()}\n\n{found[2]}", page, flags=re.S)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))

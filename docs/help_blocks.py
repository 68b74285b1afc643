"""The help texts in docs/cli.md and docs/commands, written anew from the commands: `python docs/help_blocks.py`."""

import re
from pathlib import Path

from click.testing import CliRunner

from sdplip.cli import main

DOCS = Path(__file__).parent
PAGES = [DOCS / "cli.md", *sorted((DOCS / "commands").glob("*.md"))]
BLOCK = re.compile(r"^\$ sdplip((?: [a-z]+)*) --help\n(.*?)^```", re.MULTILINE | re.DOTALL)


def renewed(page: str) -> str:
    """The page with every help text as the command prints it in a terminal of 80 columns."""

    def text(found: re.Match[str]) -> str:
        words = found[1].split()
        output = CliRunner().invoke(main, [*words, "--help"], prog_name="sdplip", terminal_width=78).output
        return f"$ sdplip{found[1]} --help\n{output}```"

    return BLOCK.sub(text, page)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(renewed(path.read_text()))

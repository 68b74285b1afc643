"""JSON Schemas of what every command prints, written anew from `sdplip.cli.keys`: `python docs/schema_files.py`.

`docs/schemas/certificate.json` is written by hand; the tests hold real certificates against it.
"""

import json
from pathlib import Path

from sdplip.cli.keys import DOCUMENTS, OTHERS, schema

FOLDER = Path(__file__).parent / "schemas"


def files() -> dict[str, str]:
    """Name and text of every file."""
    return {f"{name}.json": json.dumps(schema(name), indent=1) + "\n" for name in (*DOCUMENTS, *OTHERS)}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text)

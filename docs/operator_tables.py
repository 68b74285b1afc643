"""The tables in docs/onnx.md and docs/layers.md of what readers know, written anew from the code: `python docs/operator_tables.py`."""

import re
from pathlib import Path

PAGE = Path(__file__).parent / "onnx.md"


def onnx_table() -> str:
    """Each ONNX operator, and what of it is covered."""
    from sdplip.network.read.onnx.operators import operator_rows

    lines = [
        "| operator | covered |",
        "|---|---|",
        *(f"| {name} | {covers} |" for name, covers in operator_rows()),
    ]
    return "\n".join(lines)


def torch_list() -> str:
    """The operations of torch that a forward pass may be made of, by their names in torch's own table."""
    import sdplip.network.read.torch.reader  # noqa: F401  (fills the table)
    from sdplip.network.read.torch.table import FUNCTIONS, MOVES, RULES

    rules = sorted({name.rstrip("_") for name in RULES if not name.startswith("_")})
    moves = sorted({name for name in MOVES if not name.startswith("_")})
    functions = sorted({function.__name__ for function in FUNCTIONS})
    return "\n\n".join(
        [
            "Computed: " + ", ".join(f"`{name}`" for name in rules) + ".",
            "Moved, copied, repeated: " + ", ".join(f"`{name}`" for name in moves) + ".",
            "As one function: " + ", ".join(f"`{name}`" for name in functions) + ".",
        ]
    )


def renewed(page: str) -> str:
    """The page with both tables as the code has them."""
    for name, table in (("onnx", onnx_table()), ("torch", torch_list())):
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)"
        page = re.sub(
            pattern, lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", page, flags=re.S
        )
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))

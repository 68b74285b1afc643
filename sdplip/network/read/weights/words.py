"""Names of arrays in sentences."""

from collections.abc import Iterable


def joined(names: Iterable[str], most: int = 6) -> str:
    """`a`, `b`, `c`; long lists keep their beginning and their end."""
    quoted = [f"`{name}`" for name in names]
    if len(quoted) <= most:
        return ", ".join(quoted)
    return f"{', '.join(quoted[: most - 2])}, ..., {quoted[-1]} ({len(quoted)} in all)"


def counted(values: Iterable[int]) -> str:
    """`3 x 3`, or `3` where all are the same."""
    values = tuple(values)
    return str(values[0]) if len(set(values)) == 1 else " x ".join(map(str, values))

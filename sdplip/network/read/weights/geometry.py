"""How each kernel moves: what was said of it by its name, of every kernel, or by nobody."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdplip.errors import UnknownLayer, UnreadableFile
from sdplip.geometry import Axes, Geometry
from sdplip.network.read.weights.assumptions import CHECKS, MOVES, POOLS, Assumptions, Moves, is_moves
from sdplip.weights.names import parsed

ASSUMED = {"stride": 1, "padding": "same", "padding_mode": "zeros", "dilation": 1, "groups": 1}
"""What is assumed of a kernel where nobody says it."""


@dataclass(frozen=True)
class Placed:
    """How a kernel moves, and the pooling behind its activation."""

    geometry: Geometry
    said: Moves
    """What was said; the rest is assumed."""

    @property
    def pool(self) -> "Pool | None":
        """What was said of pooling."""
        said = {key: value for key, value in self.said.items() if key in POOLS}
        return Pool(**said) if said else None


@dataclass(frozen=True)
class Pool:
    """Windows of pooling, how far they move, and the pixels around that are nothing to a maximum."""

    max_pool: Axes | None = None
    average_pool: Axes | None = None
    pool_stride: Axes | None = None
    pool_padding: Axes = 0


def placed(name: str, assumptions: Assumptions) -> Placed:
    """What holds for the kernel called `name`."""
    said: dict[str, Any] = dict(assumptions.geometry.get("", {}))
    for key in _names(name):
        said |= assumptions.geometry.get(key, {})
    return Placed(Geometry(**{key: value for key, value in said.items() if key not in POOLS}), said)


def check_names(names: Sequence[str], geometry: Mapping[str, Moves]) -> None:
    """Raises:
    UnknownLayer: something is said of a layer that is no kernel, or not there.
    """
    known = {key for name in names for key in _names(name)}
    for key in geometry:
        if key and key not in known:
            nearest = difflib.get_close_matches(key, sorted(known), 6, 0.0)
            raise UnknownLayer(
                f"There is no kernel `{key}` to move. There are {', '.join(f'`{k}`' for k in nearest)}."
            )


def _names(name: str) -> list[str]:
    """A layer may be called by the name of its array, or without the word `weight`: `conv1` of `conv1.weight`."""
    path = parsed(name).path
    short = name.removesuffix(path[-1]).rstrip("./_") if len(path) > 1 else name
    return [short, name] if short and short != name else [name]


def read_geometry(path: Path, assumptions: Assumptions) -> Assumptions:
    """The assumptions with what a TOML file says: `image_size`, `flatten`, `average`, `activation`, `structure`, `bare`, `[[block]]`,
    the keys of `MOVES` for every kernel, and tables `[conv1]` with those keys for one. What was said before wins.

    Raises:
        UnreadableFile: missing, no TOML, unknown keys, values of another kind.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableFile(f"`{path}` cannot be opened: {error.strerror}. Check the path.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableFile(
            f"`{path}` is no TOML file: {next(iter(str(error).splitlines()), '')}."
        ) from None
    general = {key: value for key, value in table.items() if key in MOVES}
    layers = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    table = {"blocks" if key == "block" else key: value for key, value in table.items()}
    others = {key: _tuple(value) for key, value in table.items() if key not in general and key not in layers}
    allowed = ("image_size", "flatten", "average", "activation", "structure", "bare", "blocks")
    for key, value in others.items():
        if key not in allowed or not CHECKS[key](value):
            raise UnreadableFile(
                f"`{path}`: {key} = {value!r} is not understood. Use {', '.join((*allowed, *MOVES))}."
            )
    for key, moves in {"": general, **layers}.items():
        if not is_moves(moves):
            where = f"[{key}]" if key else "it"
            raise UnreadableFile(
                f"`{path}`: {where} holds {dict(moves)}. Known are {', '.join(MOVES)}, whole numbers."
            )
    geometry = {
        key: {name: _tuple(v) for name, v in moves.items()} for key, moves in {"": general, **layers}.items()
    }
    for key, moves in assumptions.geometry.items():
        geometry[key] = {**geometry.get(key, {}), **moves}
    given = {key: value for key, value in others.items() if not getattr(assumptions, key)}
    return replace(assumptions, geometry={k: m for k, m in geometry.items() if m}, **given)


def _tuple(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuple(entry) for key, entry in value.items()}
    return tuple(map(_tuple, value)) if isinstance(value, list) else value

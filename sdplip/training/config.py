"""Run files: everything that a training run depends on, read from and written to TOML.

>>> config = preset("mnist-sll")
>>> config = override(config, ["train.epochs=3", "optimiser.lr=0.005"])
>>> write_config(config, Path("run.toml"))
"""

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sdplip.errors import InvalidConfig
from sdplip.training.fields import nearest, table_name, takes_array
from sdplip.training.tables import (
    VERSION,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimiserConfig,
    RunConfig,
    TrainConfig,
)

__all__ = [
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OptimiserConfig",
    "RunConfig",
    "TrainConfig",
    "as_toml",
    "override",
    "preset",
    "preset_names",
    "read_config",
    "write_config",
]

SECTIONS: dict[str, type[Any]] = {
    table_name(section): section
    for section in (DataConfig, ModelConfig, LossConfig, OptimiserConfig, TrainConfig)
}


def read_config(path: Path | str) -> RunConfig:
    """The run file at `path`: TOML, over the preset that its key `base` names, or over the defaults.

    Raises:
        InvalidConfig: not TOML, unknown table or key, wrong type or value, another version; every message names key and remedy.
    """
    path = Path(path)
    try:
        return _resolve(tomllib.loads(path.read_text(encoding="utf-8")))
    except InvalidConfig as error:
        raise InvalidConfig(f"`{path}`: {error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidConfig(
            f"`{path}` is not a TOML file: {error}. Correct it, or start from a preset."
        ) from None


def preset_names() -> tuple[str, ...]:
    """Names that `preset` knows."""
    return tuple(sorted(name for file in _files() for name in _names(file)))


def preset(name: str = "digits-sll") -> RunConfig:
    """The run file shipped under that name.

    Raises:
        InvalidConfig: no such preset.
    """
    for file in _files():
        if name in _names(file):
            size = name.removeprefix(file.stem).removeprefix("-")
            document = tomllib.loads(file.read_text(encoding="utf-8").replace("{size}", size))
            return _resolve({key: value for key, value in document.items() if key != "sizes"})
    raise InvalidConfig(f"There is no preset {name!r}. {nearest(name, preset_names())}")


def override(config: RunConfig, assignments: Iterable[str]) -> RunConfig:
    """`config` with assignments such as `train.epochs=3` made.

    The right side is a TOML value, or a text without quotes; `none` is None, and `a,b` is an array where one is due.
    A new `loss.name` drops the other keys of the old loss.
    """
    changes: dict[str, dict[str, object]] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        section, dot, name = key.strip().partition(".")
        if not (equals and dot):
            raise InvalidConfig(
                f"{assignment!r} is no assignment. Write `table.key=value`, `train.epochs=3` for example."
            )
        changes.setdefault(section, {})[name] = _value(section, name, text.strip())
    return _merge(config, changes, typed=True)


def write_config(config: RunConfig, path: Path | str) -> None:
    """Write `config` to `path`, so that `read_config` gives it back; None is written as "none"."""
    Path(path).write_text(as_toml(config), encoding="utf-8")


def as_toml(config: RunConfig) -> str:
    """The run file as text, every key in it."""
    lines = [f"version = {config.version}"]
    for section in SECTIONS:
        lines += ["", f"[{section}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in dataclasses.asdict(config)[section].items()]
    return "\n".join(lines) + "\n"


def _files() -> list[Path]:
    return sorted(Path(__file__).with_name("presets").glob("*.toml"))


def _names(file: Path) -> list[str]:
    """The presets in a file: its own name, or one for each of its `sizes`."""
    sizes = tomllib.loads(file.read_text(encoding="utf-8")).get("sizes")
    return [file.stem] if sizes is None else [f"{file.stem}-{size}" for size in sizes]


def _resolve(document: Mapping[str, Any]) -> RunConfig:
    """The configuration that a parsed file stands for."""
    tables = dict(document)
    version, base = tables.pop("version", VERSION), tables.pop("base", None)
    if version != VERSION:
        raise InvalidConfig(
            f"The file has `version` = {version!r}, but this release of sdplip reads version {VERSION}. Use the release"
            " that wrote it, or write it anew from a preset."
        )
    return _merge(RunConfig() if base is None else preset(str(base)), tables)


def _merge(config: RunConfig, changes: Mapping[str, object], *, typed: bool = False) -> RunConfig:
    """`config` with the given keys replaced."""
    sections = {}
    for name, keys in changes.items():
        if name not in SECTIONS:
            raise InvalidConfig(f"There is no table `{name}`. {_home(name) or nearest(name, SECTIONS)}")
        if not isinstance(keys, Mapping):
            raise InvalidConfig(
                f"`{name}` must be a table, written as `[{name}]` or `{name}.key`, but is {keys!r}."
            )
        for key in keys:
            _known(name, key)
        old = dataclasses.asdict(config)[name]
        if name == "loss" and keys.get("name", old["name"]) != old["name"]:
            old = {}
        if name == "model" and keys.get("factory", "none") not in (None, "none", old["factory"]):
            old = {}
        if name == "train":
            old = _one_length(old, keys, typed=typed)
        sections[name] = SECTIONS[name](**{**old, **keys})
    return dataclasses.replace(config, **sections)


def _one_length(old: dict[str, Any], keys: Mapping[str, object], *, typed: bool) -> dict[str, Any]:
    """The table without the lengths that the given keys replace: who says steps does not mean the minutes of a preset.

    Files name all keys, where time counts before steps and steps before epochs; `typed` assignments are what somebody wants.

    Raises:
        InvalidConfig: two lengths at once.
    """
    said = [key for key in ("epochs", "steps", "minutes") if keys.get(key, "none") not in (None, "none")]
    if len(said) > 1 and (typed or said != ["epochs", said[-1]]):
        raise InvalidConfig(
            f"`train.{said[-2]}` and `train.{said[-1]}` both say how long to train. Set one of them, the other to none."
        )
    replaced = [key for key in ("steps", "minutes") if key not in keys] if said else []
    return {**old, **dict.fromkeys(replaced)}


def _keys(section: str) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(SECTIONS[section]))


def _known(section: str, key: str) -> None:
    """Refuse a key that `section` does not have, with the nearest of its own, or the same key of another table."""
    if key in _keys(section):
        return
    own = [f"{section}.{name}" for name in _keys(section)]
    raise InvalidConfig(
        f"There is no key `{section}.{key}`. {_home(key) or nearest(f'{section}.{key}', own)}"
    )


def _home(key: str) -> str:
    """The table that has this key, as a question."""
    return next((f"Did you mean `{section}.{key}`?" for section in SECTIONS if key in _keys(section)), "")


def _value(section: str, name: str, text: str) -> object:
    """An assignment's right side."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        pass
    if section in SECTIONS and takes_array(SECTIONS[section], name):
        return [_value("", "", part.strip()) for part in text.split(",") if part.strip()]
    return text


def _toml(value: object) -> str:
    """A scalar or a flat tuple as TOML."""
    if value is None:
        return '"none"'
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(entry) for entry in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)

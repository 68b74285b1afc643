"""What the user says about a file of weights that the file does not say itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sdplip.errors import InvalidCertificate

POOLS = ("max_pool", "average_pool", "pool_stride", "pool_padding")
MOVES = ("stride", "padding", "padding_mode", "dilation", "groups", *POOLS)
"""What may be said of a kernel; the pools stand behind the activation of its layer, windows side by side unless said otherwise."""
STRUCTURES = ("chain", "residual", "resnet")
"""What may be said of names that speak of blocks: one layer after the other, or blocks x + f(x) without or with an activation
behind the sum."""
BLOCK = {"activation": ("between", "before", "behind"), "sum": ("plain", "activated")}
"""What may be said of a block beside its layers."""
Moves = Mapping[str, Any]


@dataclass(frozen=True)
class Assumptions:
    """The defaults say nothing: relu between the layers, the order of the file, stride 1 and padding "same" are assumed then.

    Attributes:
        activation: between the layers, `relu`, `leaky_relu:0.1`, `maxmin`, `groupsort:4`, ...
        slopes: of any other activation, `(alpha, beta)`.
        transpose: whether the file stores `(in, out)` and `(*taps, in, out)`; None is what names say.
        layers: names of the layers, first layer first; () is all of the file.
        ignore: names of arrays that take no part.
        image_size: of the input, where the first layer is a kernel.
        geometry: how kernels move, by the name of the layer; "" is every kernel. Keys are those of `MOVES`.
        flatten: how the first matrix counts the pixels, `chw` (channels first), `hwc` or `whc`.
        average: whether the first matrix takes the mean of every channel.
        structure: one of `STRUCTURES`, where names of the layers speak of blocks; normalisations follow the layer of the same
            number then (`bn1` behind `conv1`). None says nothing, and such files are refused.
        blocks: residual blocks one by one, `{"layers": [...]}`, also with `shortcut` (layers in the identity's place),
            `activation` and `sum` as in `BLOCK`.
        bare: names of layers with no activation behind them.
    """

    activation: str | None = None
    slopes: tuple[float, float] | None = None
    transpose: bool | None = None
    layers: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    image_size: int | tuple[int, ...] | None = None
    geometry: Mapping[str, Moves] = field(default_factory=dict)
    flatten: str | None = None
    average: bool = False
    structure: str | None = None
    blocks: tuple[Mapping[str, Any], ...] = ()
    bare: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What was said, as plain JSON data."""
        said = {key.name: getattr(self, key.name) for key in fields(self)}
        return {
            key: _plain(value)
            for key, value in said.items()
            if value or (key == "transpose" and value is not None)
        }

    @classmethod
    def from_json(cls, data: Any) -> "Assumptions":
        """The assumptions of `to_json`, from a file that nobody trusts.

        Raises:
            InvalidCertificate: unknown keys, values of another kind, slopes beside the name that says them.
        """
        known = {key.name for key in fields(cls)}
        if not isinstance(data, Mapping) or set(data) - known:
            raise _malformed(
                f"keys {sorted(map(str, set(data) - known))[:3]}" if isinstance(data, Mapping) else "no table"
            )
        for key, value in data.items():
            if not CHECKS[key](value):
                raise _malformed(f"`{key}`: {str(value)[:60]}")
        if data.get("activation") and data.get("slopes"):
            raise _malformed("`activation` and `slopes` both say what the slopes are")
        given = {key: _tuples(value) for key, value in data.items()}
        return cls(**given)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_text, value))


def _is_axes(value: Any) -> bool:
    return _is_whole(value) or (
        isinstance(value, list | tuple) and 1 <= len(value) <= 3 and all(map(_is_whole, value))
    )


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _is_slopes(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value)
    )


def is_moves(value: Any) -> bool:
    """Whether the value is a table of `MOVES` with values of the right kind."""
    return isinstance(value, Mapping) and all(
        key in MOVES
        and (
            _is_text(move)
            if key == "padding_mode"
            else _is_whole(move)
            if key == "groups"
            else _is_axes(move)
        )
        for key, move in value.items()
    )


def _is_block(value: Any) -> bool:
    """Whether the value is a table of layers, and of what `BLOCK` knows."""
    return (
        isinstance(value, Mapping)
        and not set(value) - {"layers", "shortcut", *BLOCK}
        and _is_texts(value.get("layers"))
        and len(value["layers"]) > 0
        and _is_texts(value.get("shortcut", ()))
        and all(value.get(key, known[0]) in known for key, known in BLOCK.items())
    )


CHECKS = {
    "activation": _is_text,
    "slopes": _is_slopes,
    "transpose": lambda value: isinstance(value, bool),
    "layers": _is_texts,
    "ignore": _is_texts,
    "image_size": _is_axes,
    "geometry": lambda value: (
        isinstance(value, Mapping) and all(_is_text(k) and is_moves(v) for k, v in value.items())
    ),
    "flatten": lambda value: value in ("chw", "hwc", "whc"),
    "average": lambda value: isinstance(value, bool),
    "structure": lambda value: value in STRUCTURES,
    "blocks": lambda value: isinstance(value, list | tuple) and all(map(_is_block, value)),
    "bare": _is_texts,
}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(entry) for key, entry in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _malformed(what: str) -> InvalidCertificate:
    return InvalidCertificate(
        f"What was assumed about the weight file cannot be read ({what}). Make the file anew."
    )

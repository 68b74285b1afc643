"""What the name of an array says: a weight, a bias, of which layer, which way round."""

import re
from dataclasses import dataclass
from typing import Literal

WEIGHT = {"weight", "weights", "kernel", "kernels", "w", "ws", "iw", "lw"}
BIAS = {"bias", "biases"}
SHORT = {"b", "bs"}
"""A bias, where the shape allows it: a matrix may be called `b`."""
VECTOR = BIAS | {
    "b",
    "t",
    "q",
    "mean",
    "means",
    "var",
    "variance",
    "std",
    "scale",
    "scales",
    "shift",
    "offset",
}
VECTOR |= {"loss", "accuracy", "history", "metadata", "label", "labels", "beta", "gamma"}
CHANGED = VECTOR | {
    "mask",
    "orig",
    "norm",
    "gain",
    "g",
    "v",
    "u",
    "sigma",
    "grad",
    "ema",
    "copy",
    "old",
    "zero",
}
"""Words behind `weight` that make something else of it: `weight_scale`, `weight_orig`."""
COPIES = re.compile(r"[_.](transposed?|t|matlab(_format)?|keras|torch(_format)?)$", re.IGNORECASE)
"""Ends of names under which some exports store a weight a second time, with its axes in another order."""


@dataclass(frozen=True)
class Name:
    """The name of an array in parts.

    Attributes:
        path: what separators part, `("features", "0", "weight")`.
        tokens: words in lower case and numbers, `("features", 0, "weight")`.
        role: what the first or the last word says; None where they say nothing.
        key: the tokens without it: weight and bias of one layer have the same.
    """

    path: tuple[str, ...]
    tokens: tuple[str | int, ...]
    role: Literal["weight", "kernel", "bias"] | None
    key: tuple[str | int, ...]

    @property
    def container(self) -> tuple[str, ...]:
        """The path without the layer itself and its role: `("features",)` of `features.0.weight`."""
        place = next((k for k in reversed(range(len(self.path))) if _is_weight(self.path[k])), None)
        path = self.path if place is None else self.path[:place] + self.path[place + 1 :]
        return path[:-1]

    @property
    def stem(self) -> tuple[str, ...]:
        """The words of the key, without numbers."""
        return tuple(token for token in self.key if isinstance(token, str))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the key."""
        return tuple(token for token in self.key if isinstance(token, int))


def parsed(name: str, *, vector: bool = False) -> Name:
    """The name in parts; `vector` says that its shape allows a bias called `b`."""
    plain = re.sub(r":\d+$", "", name)  # TensorFlow's number of the output
    path = tuple(part for part in re.split(r"[./\[\]]+", plain) if part)
    if len(path) == 1:
        path = tuple(part for part in plain.split("_") if part)
    found = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", plain)
    tokens = tuple(int(t) if t.isdigit() else t.lower() for t in found)
    place = _place(tokens, BIAS | SHORT if vector else BIAS)
    if place is None:
        return Name(path, tokens, None, tokens)
    role = "weight" if tokens[place] in WEIGHT else "bias"
    if path[-1].lower() == "kernel" or tokens == ("kernel",):
        role = "kernel"
    return Name(path, tokens, role, tokens[:place] + tokens[place + 1 :])


def _place(tokens: tuple[str | int, ...], biases: set[str]) -> int | None:
    """Where the word stands that says the role: the last word, else the first."""
    places = [k for k, token in enumerate(tokens) if isinstance(token, str)]
    if places and tokens[places[-1]] in WEIGHT | biases:
        return places[-1]
    if places and tokens[places[0]] in WEIGHT | biases and not CHANGED & set(tokens[places[0] + 1 :]):
        return places[0]
    return None


def _is_weight(part: str) -> bool:
    words = _words(part)
    return len(words) == 1 and words[0] in WEIGHT


def is_vector(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the array is a bias, a statistic or a setting: by its name, where its shape allows both."""
    words = _words(name)
    if words and words[-1] in BIAS:
        return True
    if not name or sum(axis != 1 for axis in shape) > 1 or says_weight(name):
        return False
    return bool(VECTOR & set(words)) or all(axis == 1 for axis in shape)


def says_weight(name: str) -> bool:
    """Whether the name claims a weight, as `fc1.weight`, `W2` and `weights[0]` do and `weight_scale` does not."""
    words = _words(name)
    return bool(WEIGHT & set(words)) and words[-1] not in VECTOR


def says_bias(name: str) -> bool:
    """Whether the name claims a bias, as `biases[0]` and `b1` do."""
    return parsed(name, vector=True).role == "bias"


def says_kernel(name: str) -> bool:
    """Whether the name is Keras' and Flax's `kernel`, which they store as `(*taps, in, out)`."""
    return parsed(name).role == "kernel"


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)]


def natural(name: str) -> list[tuple[str, int]]:
    """A key of order under which numbers in names count as numbers."""
    return [(text, int(digits or -1)) for text, digits in re.findall(r"(\D*)(\d*)", name)]

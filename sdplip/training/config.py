"""Run files: everything that a training run depends on, as typed frozen data, read from and written to TOML.

>>> config = preset("mnist-sll")
>>> config = override(config, ["train.epochs=3", "optimiser.lr=0.005"])
>>> write_config(config, Path("run.toml"))
"""

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from sdplip.errors import InvalidConfig
from sdplip.training.fields import Range, check, nearest, table_name

VERSION = 1
"""Version of the format of run files."""

Positive: TypeAlias = Annotated[float, Range(0, strict=True)]
NotNegative: TypeAlias = Annotated[float, Range(0)]
Count: TypeAlias = Annotated[int, Range(1)]
Number: TypeAlias = Annotated[int, Range(0)]
Share: TypeAlias = Annotated[float, Range(0, 1)]

Family = Literal["sll", "cpl", "aol", "orthogonal", "multi_step2", "multi_step4", "plain"]
Shape = Literal[
    "digits",
    "mnist",
    "cifar_small",
    "S",
    "M",
    "L",
    "XL",
    "convnet-XS",
    "convnet-S",
    "convnet-M",
    "convnet-L",
    "liresnet",
]
Loss = Literal[
    "cross_entropy", "tau_cross_entropy", "multi_margin", "cr", "emma", "logit_annealing", "hkr", "gloro"
]


class _Section:
    """A table of a run file; making one checks it."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class DataConfig(_Section):
    """What is learned.

    Attributes:
        name: digits, mnist, fashion_mnist, cifar10, cifar100, tiny_imagenet, `hub:owner/name`, or a file `.npz`.
        path: folder of Parquet files; None where the name is enough.
        validation: share of the training set held out for model selection; 0 for none.
        augment: transformations of training images, in this order.
    """

    name: str = "digits"
    path: str | None = None
    validation: Annotated[float, Range(0, 0.9)] = 0.1
    augment: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelConfig(_Section):
    """The network. A None of the sizes is the shape's own number.

    Attributes:
        family: how layers are bounded: `sll`, `cpl`, `aol`, `multi_step2`, `multi_step4` (T of residual layers; aol and multi-step
            of rescaled layers in convnets), `orthogonal`, or `plain` (not normalised: `liresnet`).
        shape: the architecture.
        head: `lln` (rows of length 1) or `linear` (rows as they come); both get pairwise constants.
        centre: subtract the mean of the training set.
        std: divide by this standard deviation of a pixel in [0, 1]; 1 keeps the constant of the network.
        start: `published` initial weights of the layer, or `tight` (`sdplip.nn.initialise`).
        refresh_every: steps of training from one computation of T to the next.
        width: channels of the convolutions.
        convolutions, dense: number of convolutional and of dense blocks.
        hidden_channels, hidden: hidden units of a convolutional and of a dense block.
        pool: side of the pooling windows before the dense blocks.
    """

    family: Family = "sll"
    shape: Shape = "digits"
    head: Literal["lln", "linear"] = "lln"
    centre: bool = True
    std: Positive = 1.0
    start: Literal["published", "tight"] = "published"
    refresh_every: Count = 1
    width: Count | None = None
    convolutions: Number | None = None
    dense: Number | None = None
    hidden_channels: Count | None = None
    hidden: Count | None = None
    pool: Count | None = None


@dataclass(frozen=True)
class LossConfig(_Section):
    """The loss. None is the published value of that loss; a key that the loss has no use for must be None.

    Attributes:
        offset: subtracted from the logit of the true class (cross_entropy, logit_annealing).
        temperature: divides the logits; tau in tau_cross_entropy multiplies them (logit_annealing, hkr too).
        margin: of the hinge (multi_margin, hkr).
        eps: radius in pixel units that training aims at (emma, gloro).
        gamma: weight of the mean certified radius (cr).
        alpha: share of the hinge in [0, 1] (hkr).
        beta: exponent of the annealing (logit_annealing).
        weight: weight of the divergence (gloro in its TRADES form; None is the cross-entropy with one more class).
    """

    name: Loss = "cross_entropy"
    offset: float | None = None
    temperature: Positive | None = None
    margin: Positive | None = None
    eps: Positive | None = None
    gamma: NotNegative | None = None
    alpha: Share | None = None
    beta: NotNegative | None = None
    weight: NotNegative | None = None

    def __post_init__(self) -> None:
        check(self)
        for key, value in dataclasses.asdict(self).items():
            if key != "name" and value is not None and key not in LOSS_KEYS[self.name]:
                raise InvalidConfig(
                    f"`loss.{key}` = {value!r} has no effect on the loss {self.name!r}, which knows"
                    f" {', '.join(LOSS_KEYS[self.name])}. Remove it, or set it to none."
                )


LOSS_KEYS: dict[str, tuple[str, ...]] = {
    "cross_entropy": ("offset", "temperature"),
    "tau_cross_entropy": ("temperature",),
    "multi_margin": ("margin",),
    "cr": ("gamma",),
    "emma": ("eps",),
    "logit_annealing": ("offset", "temperature", "beta", "eps"),
    "hkr": ("alpha", "margin", "temperature"),
    "gloro": ("eps", "weight"),
}
"""The keys that each loss reads."""


@dataclass(frozen=True)
class OptimiserConfig(_Section):
    """The optimiser of torch and the schedule of its learning rate.

    Attributes:
        lr: peak of the learning rate.
        weight_decay: on weights of two axes or more; never on biases and on q.
        momentum, nesterov: sgd only.
        betas: adam, adamw, nadam only.
        schedule: `piecewise_linear` (to the peak at the share `peak` of the steps, to a twentieth of it at `knee`, then to 0),
            `one_cycle`, `cosine`, `constant`.
        warmup: share of the steps with a linear rise (cosine, constant).
        clip: largest length of the gradient; None for no limit.
    """

    name: Literal["adam", "adamw", "nadam", "sgd"] = "adam"
    lr: Positive = 0.01
    weight_decay: NotNegative = 0.0
    momentum: Annotated[float, Range(0, 0.9999)] = 0.9
    nesterov: bool = False
    betas: tuple[Annotated[float, Range(0, 0.9999)], Annotated[float, Range(0, 0.9999999)]] = (0.9, 0.999)
    schedule: Literal["piecewise_linear", "one_cycle", "cosine", "constant"] = "piecewise_linear"
    peak: Share = 0.4
    knee: Share = 0.8
    warmup: Share = 0.0
    clip: Positive | None = None


@dataclass(frozen=True)
class TrainConfig(_Section):
    """How long, on what, in which precision.

    Attributes:
        epochs: passes over the training set.
        batch: images of a step, over all processes together.
        minutes: budget of wall-clock time, within which the schedule ends; None for none.
        seed: of the initial weights, the order of the images, the augmentation.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: of the forward pass in training; bfloat16 is autocast, and the bound is of the float32 weights either way.
        compile: `torch.compile` of the network.
        checkpoint_minutes: time from one checkpoint to the next; 0 for one at each epoch.
        threads: of torch; None leaves them.
    """

    epochs: Count = 30
    batch: Count = 128
    minutes: Positive | None = None
    seed: Number = 0
    device: str = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    checkpoint_minutes: NotNegative = 5.0
    threads: Count | None = None


@dataclass(frozen=True)
class RunConfig:
    """A run file: five tables and the version of the format."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    version: int = VERSION


SECTIONS: dict[str, type[Any]] = {
    table_name(section): section
    for section in (DataConfig, ModelConfig, LossConfig, OptimiserConfig, TrainConfig)
}
Changes = Mapping[str, Mapping[str, object]]


def read_config(path: Path | str) -> RunConfig:
    """The run file at `path`: TOML, over the preset that its key `base` names, or over the defaults.

    Raises:
        InvalidConfig: not TOML, unknown table or key, wrong type or value, another version; every message names key and remedy.
    """
    path = Path(path)
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except (InvalidConfig, UnicodeDecodeError) as error:
        raise InvalidConfig(f"`{path}`: {error}") from None


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
            return _parse(file.read_text(encoding="utf-8").replace("{size}", size))
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
    return _merge(config, changes)


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
    with resources.as_file(resources.files("sdplip.training") / "presets") as folder:
        return sorted(folder.glob("*.toml"))


def _names(file: Path) -> list[str]:
    """The presets in a file: its own name, or one for each of its `sizes`."""
    sizes = tomllib.loads(file.read_text(encoding="utf-8")).get("sizes")
    return [file.stem] if sizes is None else [f"{file.stem}-{size}" for size in sizes]


def _parse(text: str) -> RunConfig:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfig(f"This is not TOML: {error}.") from None
    version = document.pop("version", VERSION)
    if version != VERSION:
        raise InvalidConfig(
            f"The file has `version` = {version!r}, but this release of sdplip reads version {VERSION}. Use the release"
            " that wrote it, or write it anew from a preset."
        )
    base = document.pop("base", None)
    document.pop("sizes", None)
    return _merge(RunConfig() if base is None else preset(base), document)


def _merge(config: RunConfig, changes: Mapping[str, object]) -> RunConfig:
    """`config` with the given keys replaced."""
    sections = {}
    for name, keys in changes.items():
        if name not in SECTIONS:
            raise InvalidConfig(f"There is no table `{name}`. {nearest(name, SECTIONS)}")
        if not isinstance(keys, Mapping):
            raise InvalidConfig(
                f"`{name}` must be a table, written as `[{name}]` or `{name}.key`, but is {keys!r}."
            )
        for key in keys:
            _known(name, key)
        old = dataclasses.asdict(config)[name]
        if name == "loss" and keys.get("name", old["name"]) != old["name"]:
            old = {}
        sections[name] = SECTIONS[name](**{**old, **keys})
    return dataclasses.replace(config, **sections)


def _keys(section: str) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(SECTIONS[section]))


def _known(section: str, key: str) -> None:
    """Refuse a key that `section` does not have, with the nearest of its own, or the same key of another table."""
    if key in _keys(section):
        return
    homes = [f"{other}.{key}" for other in SECTIONS if key in _keys(other)]
    remedy = (
        f"Did you mean `{homes[0]}`?"
        if homes
        else nearest(f"{section}.{key}", [f"{section}.{name}" for name in _keys(section)])
    )
    raise InvalidConfig(f"There is no key `{section}.{key}`. {remedy}")


def _value(section: str, name: str, text: str) -> object:
    """An assignment's right side."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        pass
    if section in SECTIONS and isinstance(dataclasses.asdict(SECTIONS[section]()).get(name), tuple):
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

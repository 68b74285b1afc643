"""The tables of a run file as typed frozen data. Making one checks every value."""

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Literal

from sdplip.errors import InvalidConfig
from sdplip.training.fields import Count, NotNegative, Number, Positive, Range, Share, check
from sdplip.training.loss_table import LossConfig

VERSION = 1
"""Version of the format of run files."""

Family = Literal[
    "sll",
    "cpl",
    "aol",
    "orthogonal",
    "aoc",
    "manifold",
    "multi_step2",
    "multi_step4",
    "optimal",
    "sandwich",
    "lipkernel",
    "equilibrium",
    "plain",
]
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
    "shift",
    "mlp",
    "table",
]


class _Section:
    """A table of a run file; making one checks it."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class DataConfig(_Section):
    """What is learned.

    Attributes:
        name: digits, diabetes (a table for regression), mnist, fashion_mnist, cifar10, cifar100, tiny_imagenet, `hub:owner/name`, or a file `.npz`.
        path: folder of Parquet files; None where the name is enough.
        validation: share of the training set held out for model selection; 0 for none.
        augment: transformations of training images, in this order.
    """

    name: str = "digits"
    path: str | None = None
    validation: Annotated[float, Range(0, 0.9)] = 0.1
    augment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self)
        if self.name in ("digits", "diabetes") and self.path is not None:
            raise InvalidConfig(
                f"The {self.name} come with scikit-learn and have no files, but `data.path` is {self.path!r}. For data of your own"
                " choose another preset (`--preset mnist`), or name them: `--set data.name=parquet`, or a file `.npz`."
            )


@dataclass(frozen=True)
class ModelConfig(_Section):
    """The network. A None of the sizes is the shape's own number.

    Attributes:
        family: how layers are bounded: `sll`, `cpl`, `aol`, `multi_step2`, `multi_step4`, `optimal` (T of residual layers; in
            convnets aol and multi-step are rescaled layers; `optimal`, the SDP's own T now and then, is for dense blocks alone),
            `orthogonal` (convolutions by Cayley), `aoc` (by AOC), `manifold` (weights that the optimiser `muon` keeps orthogonal;
            kernels larger than one pixel by AOC), `sandwich`, `lipkernel` (convolutions with stride 2), `equilibrium` (dense layers
            whose outputs solve an equation), or `plain` (not normalised: `liresnet`).
        shape: the architecture; `shift` is LipNeXt's (patches, shifts, L2 pooling), `mlp` wide dense layers alone, `table` dense layers
            for rows of numbers.
        head: `lln` (rows of length 1) or `linear` (rows as they come); both get pairwise constants.
        centre: subtract the mean of the training set.
        std: divide by this standard deviation of a pixel in [0, 1]; 1 keeps the constant of the network.
        start: `published` initial weights of the layer, or `tight` (`sdplip.nn.initialise`).
        refresh_every: steps of training from one computation of T to the next.
        width: channels of the convolutions.
        kernel: side of the kernels.
        patch: side of the patches of pixels that become channels before everything else.
        convolutions, dense: number of convolutional (shift: of all) and of dense blocks.
        hidden_channels, hidden: hidden units of a convolutional and of a dense block.
        pool: side of the pooling windows before the dense blocks; shift: of L2 pooling, all tokens if None.
        lipschitz: constant of a network of the shape `table`, by a factor at its end; None is 1.
        factory: a network of your own, `package.module:callable`, instead of all other keys.
    """

    family: Family = "sll"
    shape: Shape = "digits"
    head: Literal["lln", "linear"] = "lln"
    centre: bool = True
    std: Positive = 1.0
    start: Literal["published", "tight"] = "published"
    refresh_every: Count = 1
    width: Count | None = None
    kernel: Count | None = None
    patch: Count | None = None
    convolutions: Number | None = None
    dense: Number | None = None
    hidden_channels: Count | None = None
    hidden: Count | None = None
    pool: Count | None = None
    lipschitz: Positive | None = None
    factory: str | None = None

    def __post_init__(self) -> None:
        check(self)
        if self.factory is None:
            return
        for own in dataclasses.fields(self):
            if own.name != "factory" and vars(self)[own.name] != own.default:
                raise InvalidConfig(
                    f"`model.{own.name}` has no effect on a network of your own, `model.factory` = {self.factory!r}. Remove it."
                )


LARGEST_TURN = 0.6
r"""Of the learning rate of muon: singular values stay below $1 + 1.21\, \eta < \sqrt 3$, within which its retraction leads back."""


@dataclass(frozen=True)
class OptimiserConfig(_Section):
    """The optimiser and the schedule of its learning rate.

    Attributes:
        name: of torch's `adam`, `adamw`, `nadam`, `sgd`; or `muon`, for weights that are orthogonal themselves
            (`model.family` = manifold) or that a scaling divides by (sll, cpl, aol, multi_step2, multi_step4), which leaves all
            others to Adam.
        lr: peak of the learning rate; muon: of the weights that it turns.
        lr_rest: muon only, peak of the learning rate of all others; None is 0.01.
        weight_decay: on weights of two axes or more; never on biases and on q.
        momentum: sgd and muon only.
        nesterov: sgd only.
        betas: adam, adamw, nadam, and muon for the others.
        newton_schulz: muon only, steps of that iteration; in bfloat16 where `train.precision` is.
        schedule: `piecewise_linear` (to the peak at the share `peak` of the steps, to a twentieth of it at `knee`, then to 0),
            `one_cycle`, `linear`, `cosine`, `constant`; `free`: constant, and a mean of the weights instead of a fall
            (`sdplip.training.optimisers.ScheduleFree`, whose beta is `momentum`; the optimiser itself then has none).
        warmup: share of the steps with a linear rise (linear, cosine, constant, free).
        lookahead: steps after which slow weights follow half of the way (`sdplip.training.optimisers.Lookahead`); None for none.
        clip: largest length of the gradient; None for no limit.
    """

    name: Literal["adam", "adamw", "nadam", "sgd", "muon"] = "adam"
    lr: Positive = 0.01
    lr_rest: Positive | None = None
    weight_decay: NotNegative = 0.0
    momentum: Annotated[float, Range(0, 0.9999)] = 0.9
    nesterov: bool = False
    betas: tuple[Annotated[float, Range(0, 0.9999)], Annotated[float, Range(0, 0.9999999)]] = (0.9, 0.999)
    newton_schulz: Count | None = None
    schedule: Literal["piecewise_linear", "one_cycle", "linear", "cosine", "constant", "free"] = (
        "piecewise_linear"
    )
    peak: Share = 0.4
    knee: Share = 0.8
    warmup: Share = 0.0
    lookahead: Count | None = None
    clip: Positive | None = None

    def __post_init__(self) -> None:
        check(self)
        if self.peak > self.knee:
            raise InvalidConfig(
                f"`optimiser.peak` must not lie after `optimiser.knee`, but they are {self.peak} and {self.knee}."
            )
        for key in ("lr_rest", "newton_schulz"):
            if self.name != "muon" and vars(self)[key] is not None:
                raise InvalidConfig(
                    f"`optimiser.{key}` is for the optimiser muon, but `optimiser.name` is {self.name}. Remove it."
                )
        if self.schedule == "free" and self.lookahead is not None:
            raise InvalidConfig(
                "`optimiser.lookahead` and `optimiser.schedule` = free are two means of the same weights. Drop one of them."
            )
        if self.name == "muon" and self.lr > LARGEST_TURN:
            raise InvalidConfig(
                f"`optimiser.lr` of muon must be at most {LARGEST_TURN}, from where steps lead back to orthogonal weights, but is {self.lr:g}."
            )


@dataclass(frozen=True)
class TrainConfig(_Section):
    """How long, on what, in which precision.

    Attributes:
        epochs: passes over the training set.
        steps: of the optimiser in all, instead of `epochs`; None for `epochs`.
        batch: images of a step, over all processes together.
        minutes: time, instead of `epochs` and `steps`, within which the schedule ends; None for no budget.
        clock: what `minutes` counts: `wall`, or `cpu`, the processor time of all threads, so that other work on the machine
            changes nothing; for runs on the CPU.
        seed: of the initial weights, the order of the images, the augmentation.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: of the forward pass in training; bfloat16 is autocast, and the bound is of the float32 weights either way. `auto` is
            bfloat16 where processor or GPU have units for its products (AMX, AVX512-BF16, CUDA), else float32; the run file of the
            folder says which.
        channels_last: memory of images with their channels beside each other; None is where the precision is bfloat16.
        compile: `torch.compile` of the network.
        checkpoint_minutes: time from one checkpoint to the next; 0 for one at each epoch.
        checkpoint_steps: steps from one checkpoint to the next, besides; None for time alone.
        eps: radius in pixel units at which validation certifies, and the model is selected.
        tensorboard: also write events for TensorBoard.
        average: decay a step of a running mean of the weights, which is validated too, and kept where it is better; None for none.
        bound_every: epochs from one proven bound of the whole network to the next, in the metrics; None for none.
        threads: of torch; None leaves them.
    """

    epochs: Count = 30
    steps: Count | None = None
    batch: Count = 128
    minutes: Positive | None = None
    clock: Literal["wall", "cpu"] = "wall"
    seed: Number = 0
    device: str = "auto"
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    channels_last: bool | None = None
    compile: bool = False
    checkpoint_minutes: NotNegative = 5.0
    checkpoint_steps: Count | None = None
    eps: Positive = 36 / 255
    tensorboard: bool = False
    average: Annotated[float, Range(0, 0.999999, strict=True)] | None = None
    bound_every: Count | None = None
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

    def __post_init__(self) -> None:
        if self.optimiser.schedule == "free" and self.train.average is not None:
            raise InvalidConfig(
                "`train.average` and `optimiser.schedule` = free are two means of the same weights. Drop one of them."
            )

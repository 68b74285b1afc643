"""From a run file to objects of torch: the network, its loss; `build_optimiser` and `build_schedule` stand in `schedules`."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, cast

from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import InvalidConfig, InvalidWeight
from sdplip.nn.abstract_scaling import AbstractScaling
from sdplip.nn.heads import LastLayerNormalised, Normalise
from sdplip.nn.initialise import initialise
from sdplip.nn.joint_models import equilibrium_network, lipkernel_network
from sdplip.nn.losses import (
    CLL,
    CRM,
    EMMA,
    HKR,
    AbstractLoss,
    AbstractRegression,
    CertificateRegularised,
    CrossEntropy,
    GloRo,
    LogitAnnealing,
    MeanAbsolute,
    MeanSquare,
    MultiMargin,
    TauCrossEntropy,
)
from sdplip.nn.models import (
    CIFAR_SMALL,
    CONVNET_WIDTHS,
    DIGITS,
    FAMILIES,
    MNIST,
    PLANS,
    Plan,
    convnet,
    liresnet,
    orthogonal_network,
    residual_network,
    sandwich_network,
)
from sdplip.nn.token_models import mlp, shift_network
from sdplip.training.dense import table_network
from sdplip.training.schedules import build_optimiser, build_schedule
from sdplip.training.tables import LossConfig, ModelConfig

__all__ = ["build_loss", "build_model", "build_optimiser", "build_schedule", "head_distances"]

SHAPES: dict[str, Plan] = {"digits": DIGITS, "mnist": MNIST, "cifar_small": CIFAR_SMALL, **PLANS}
"""Shapes that are plans of blocks, for every image size that their pooling divides."""

JOINT: dict[str, tuple[Callable[[Plan], nn.Sequential], dict[str, int], tuple[str, ...]]] = {
    "lipkernel": (
        lipkernel_network,
        {"convolutions": 2, "dense": 2, "width": 16, "kernel": 4, "pool": 1},
        ("width", "kernel", "convolutions", "dense", "hidden", "pool"),
    ),
    "equilibrium": (equilibrium_network, {"convolutions": 0, "dense": 1}, ("dense", "hidden")),
}
"""Families whose layers have a constant only together: what builds them, sizes in place of the shape's, keys that they know."""

LOSSES: dict[str, Callable[..., AbstractLoss]] = {
    "cross_entropy": CrossEntropy,
    "tau_cross_entropy": lambda temperature=1 / TauCrossEntropy.tau: TauCrossEntropy(1 / temperature),
    "multi_margin": MultiMargin,
    "cr": CertificateRegularised,
    "emma": EMMA,
    "logit_annealing": LogitAnnealing,
    "hkr": HKR,
    "gloro": GloRo,
    "cll": CLL,
    "crm": CRM,
    "mse": MeanSquare,
    "mae": MeanAbsolute,
}


def build_loss(config: LossConfig) -> AbstractLoss:
    """The loss, with its published values where the run file says nothing."""
    given = {k: v for k, v in dataclasses.asdict(config).items() if k != "name" and v is not None}
    return LOSSES[config.name](**given)


def tolerance_of(config: LossConfig) -> float:
    """The errors of a regression that count as right."""
    loss = build_loss(config)
    assert isinstance(loss, AbstractRegression)
    return loss.tolerance


def build_model(
    config: ModelConfig, *, image_shape: tuple[int, ...], classes: int, mean: Sequence[float]
) -> nn.Sequential:
    """The network: normalisation, layers, and a linear head last; its weights from torch's global generator.

    Args:
        config: the table `model`.
        image_shape: channels, height, width; of a table its features.
        classes: number of logits, or of targets.
        mean: channel means of the training images in [0, 1].

    Raises:
        InvalidConfig: the shape does not fit the images, or a key does not fit the shape.
    """
    if len(image_shape) == 1 or config.shape == "table":
        return table_network(config, image_shape, classes)
    if config.lipschitz is not None:
        raise InvalidConfig(
            f"`model.lipschitz` = {config.lipschitz!r} is for the shape 'table', but `model.shape` is {config.shape!r}. Change one of them."
        )
    assert len(image_shape) == 3
    body, features = _body(config, image_shape, classes)
    head = (LastLayerNormalised if config.head == "lln" else nn.Linear)(features, classes)
    normalise: list[nn.Module] = []
    if config.centre or config.std != 1:
        channels = image_shape[0]
        centre = tuple(mean) if config.centre else (0.0,) * channels
        normalise = [Normalise(centre, None if config.std == 1 else (config.std,) * channels)]
    model = nn.Sequential(*normalise, *body, head)
    for module in model.modules():
        if isinstance(module, AbstractScaling):
            module.refresh_every = config.refresh_every
    if config.start == "tight":
        initialise(model)
    return model


def _body(config: ModelConfig, image: tuple[int, int, int], classes: int) -> tuple[list[nn.Module], int]:
    """Everything between normalisation and head, and the number of features that it ends in."""
    if (config.shape == "liresnet") != (config.family == "plain"):
        raise InvalidConfig(
            f"The shape `liresnet` and the family `plain` go together, but `model.shape` is {config.shape!r} and"
            f" `model.family` {config.family!r}. Change one of them."
        )
    if config.shape in SHAPES:
        return (_joint if config.family in JOINT else _blocks)(config, image, classes)
    if config.family in (*JOINT, "sandwich"):
        raise InvalidConfig(
            f"The family {config.family!r} is for the shapes {', '.join(SHAPES)}, but `model.shape` is {config.shape!r}. Change one of"
            " them."
        )
    if config.shape in ("shift", "mlp"):
        return _tokens(config, image, classes)
    sizes = ("width", "convolutions") if config.shape == "liresnet" else ()
    for key in ("width", "kernel", "patch", "convolutions", "dense", "hidden_channels", "hidden", "pool"):
        if dataclasses.asdict(config)[key] is not None and key not in sizes:
            raise InvalidConfig(f"`model.{key}` has no effect on the shape {config.shape!r}. Remove it.")
    step = 16 if config.shape == "liresnet" else 32
    if image[0] != 3 or image[1] != image[2] or image[1] % step:
        raise InvalidConfig(
            f"The shape {config.shape!r} needs square images of 3 channels with a side divisible by {step}, but they are"
            f" {image}. Choose one of {', '.join(SHAPES)}."
        )
    if config.shape == "liresnet":
        whole = liresnet(config.width or 64, config.convolutions or 4, classes=classes, image_size=image[1])
        return list(whole)[:-1], cast(nn.Linear, whole[-1]).in_features
    size = cast(Literal["XS", "S", "M", "L"], config.shape.removeprefix("convnet-"))
    layer = cast(
        Literal["sll", "cpl", "aol", "orthogonal", "aoc", "manifold", "multi_step2", "multi_step4"],
        config.family,
    )
    layers = list(convnet(size, layer, classes=classes, image_size=image[1]))[
        :-2
    ]  # our head is the last layer
    return layers, 32 * CONVNET_WIDTHS[size]


def _tokens(config: ModelConfig, image: tuple[int, int, int], classes: int) -> tuple[list[nn.Module], int]:
    """The body of shifts on patches, or of dense layers alone."""
    shift = config.shape == "shift"
    families = ("orthogonal", "manifold") if shift else ("orthogonal", "manifold", *FAMILIES)
    if config.family not in families:
        raise InvalidConfig(
            f"The shape {config.shape!r} has the families {', '.join(families)}, but `model.family` is {config.family!r}."
        )
    known = ("width", "patch", "convolutions", "pool") if shift else ("width", "dense")
    for key in ("width", "kernel", "patch", "convolutions", "dense", "hidden_channels", "hidden", "pool"):
        if vars(config)[key] is not None and key not in known:
            raise InvalidConfig(
                f"`model.{key}` has no effect on the shape {config.shape!r}, which knows {', '.join(known)}. Remove it."
            )
    try:
        if shift:
            method = "manifold" if config.family == "manifold" else "aoc"
            sizes = {"patch": config.patch or 4, "pool": config.pool}
            depth = 8 if config.convolutions is None else config.convolutions
            whole = shift_network(config.width or 256, depth, method, **sizes, image=image, classes=classes)
        else:
            depth = 8 if config.dense is None else config.dense
            whole = mlp(config.width or 3072, depth, config.family, image=image, classes=classes)
    except InvalidWeight as error:
        raise InvalidConfig(f"The sizes of the shape {config.shape!r} do not fit: {error}") from None
    return list(whole)[:-1], cast(nn.Linear, whole[-1]).in_features


def _blocks(config: ModelConfig, image: tuple[int, int, int], classes: int) -> tuple[list[nn.Module], int]:
    """The body of a plan."""
    sizes = {f.name for f in dataclasses.fields(Plan)} & set(dataclasses.asdict(config))
    given = {k: v for k in sizes if (v := dataclasses.asdict(config)[k]) is not None}
    plan = replace(SHAPES[config.shape], image=image, classes=classes, **given)
    if image[1] % (plan.pool * plan.patch) or image[2] % (plan.pool * plan.patch):
        raise InvalidConfig(
            f"`model.pool` times `model.patch` = {plan.pool * plan.patch} must divide the sides of the images, which are"
            f" {image[1]} x {image[2]}. Set another."
        )
    if plan.width < image[0] * plan.patch**2:
        raise InvalidConfig(
            f"`model.width` must be at least the {image[0] * plan.patch**2} channels of the images and patches, but is"
            f" {plan.width}."
        )
    if config.family == "optimal" and plan.convolutions:
        raise InvalidConfig(
            "The family 'optimal' is for dense blocks, but the shape has convolutions. Set `model.convolutions` to 0."
        )
    if config.family == "sandwich":
        whole = _fitting(sandwich_network, plan)
    elif config.family in ("orthogonal", "aoc", "manifold"):
        whole = orthogonal_network(plan, "cayley" if config.family == "orthogonal" else config.family)
    else:
        whole = residual_network(plan, FAMILIES[config.family])
    return list(whole)[:-1], cast(nn.Linear, whole[-1]).in_features


def _joint(config: ModelConfig, image: tuple[int, int, int], classes: int) -> tuple[list[nn.Module], int]:
    """The body of layers that have a constant only together."""
    build, start, known = JOINT[config.family]
    given = dict(start)
    for key in ("width", "kernel", "patch", "convolutions", "dense", "hidden_channels", "hidden", "pool"):
        if (value := vars(config)[key]) is None:
            continue
        if key not in known:
            raise InvalidConfig(
                f"`model.{key}` has no effect on the family {config.family!r}, which knows {', '.join(known)}. Remove it."
            )
        given[key] = value
    whole = _fitting(build, replace(SHAPES[config.shape], image=image, classes=classes, **given))
    return list(whole)[:-1], cast(nn.Linear, whole[-1]).in_features


def _fitting(build: Callable[[Plan], nn.Sequential], plan: Plan) -> nn.Sequential:
    try:
        return build(plan)
    except InvalidWeight as error:
        raise InvalidConfig(f"The sizes of the table `model` do not fit: {error}") from None


def head_distances(model: nn.Sequential) -> Float[Tensor, "classes classes"]:
    r"""Differentiable $\lVert u_i - u_j \rVert_2$ of the rows of the head; 0 on the diagonal, with zero gradient there.

    Times the constant of the backbone they are the `LossContext.pairwise` of training. Through the Gram matrix of the rows: all
    differences at once would take gigabytes for 200 classes.
    """
    head = model[-1]
    if not isinstance(head, nn.Linear):
        raise InvalidConfig(
            f"The head must be linear, but is a `{type(head).__name__}`. Put `LastLayerNormalised` last."
        )
    U = head.rows() if isinstance(head, LastLayerNormalised) else head.weight
    G = U @ U.mT
    squares = (G.diagonal()[:, None] + G.diagonal() - 2 * G).clamp(min=0)
    zero = squares == 0
    return squares.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)

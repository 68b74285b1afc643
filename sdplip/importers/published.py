"""Published CPL and SLL networks: appended channels, convolutions, pooling, matrices, the last layer.

CPL and the first version of SLL number their layers `stable_block.0, 1, ...` (convolutions, then pooling), `layers_linear.1, 2, ...` (behind
a flattening) and `last_last`; the second version of SLL numbers all of them in one chain, `model.0` being the appended channels.
"""

from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.importers.layer import Imported
from sdplip.importers.layouts import Groups
from sdplip.importers.modules import module_of
from sdplip.importers.parts import COLOURS, INTO, ImportedNetwork, head_of, image_size_of, in_order, takes
from sdplip.nn.pooling import ScaledAvgPool2d
from sdplip.nn.residual import PadChannels

POOL = 4


def published(groups: Groups, layers: list[Imported], classes: int | None) -> ImportedNetwork:
    """Convolutions behind appended channels, pooling, matrices, the head."""
    convolutions = [layer for layer in layers if layer.weight.array.ndim == 4]
    dense = [layer for layer in layers if layer.weight.array.ndim == 2]
    head = _only_head(groups, layers)
    if not convolutions or layers[: len(convolutions)] != convolutions:
        raise InvalidWeight(INTO)
    _order(convolutions, dense, head)
    width = convolutions[0].weight.array.shape[1]
    if width < COLOURS:
        raise InvalidWeight(
            f"`{convolutions[0].prefix}` takes {width} channels, but published networks append channels to {COLOURS} colours. {INTO}"
        )
    size, said = image_size_of(convolutions[0])
    for layer in convolutions:
        takes(layer, width)
        if layer.weight.array.shape[2:] != (3, 3):
            raise InvalidWeight(
                f"`{layer.prefix}` has {layer.weight.array.shape[2:]} taps, but published layers pad every kernel as one of 3 x 3. {INTO}"
            )
    features = width * (size[0] // POOL) * (size[1] // POOL)
    if dense:
        size, features, said = _fitting(size, dense[0].weight.array.shape[1], width, said)
    for layer in dense:
        takes(layer, features)
    body = [*map(module_of, convolutions), ScaledAvgPool2d(POOL), nn.Flatten(), *map(module_of, dense)]
    body = [PadChannels(width - COLOURS), *body]
    last, assumed = head_of(head, groups, features, classes)
    said += ("Images enter the first layer as they are: mean and deviation are in no file.", *assumed)
    return ImportedNetwork(
        nn.Sequential(*body, *last), (COLOURS, *size), tuple(layers), head is not None, said
    )


def _only_head(groups: Groups, layers: list[Imported]) -> str | None:
    """The name of the only matrix of no layer, which is the last of the file's; None if there is none."""
    ours = {layer.prefix for layer in layers}
    others = [
        prefix
        for prefix, group in groups.items()
        if prefix not in ours and any(a.ndim > 1 for a in group.values())
    ]
    if not others:
        return None
    group = groups[others[0]]
    if len(others) > 1 or set(group) - {"bias"} != {"weight"} or group["weight"].ndim != 2:
        raise InvalidWeight(
            f"`{others[-1]}` is no layer of published CPL or SLL, which have residual layers and one matrix at the end. {INTO}"
        )
    return others[0]


def _order(convolutions: list[Imported], dense: list[Imported], head: str | None) -> None:
    """The numbers of the layers in the two ways in which published networks count."""
    first, second = [layer.prefix for layer in convolutions], [layer.prefix for layer in dense]
    if "stable_block." in first[0]:
        in_order(first, "stable_block.", 0)
        in_order(second, "layers_linear.", 1)
        return
    in_order(first, "model.", 1)
    in_order(second, "model.", len(convolutions) + 3)
    number = len(convolutions) + len(dense) + 3
    if head is not None and not head.endswith(f"model.{number}"):
        raise InvalidWeight(
            f"`{head}` stands where number {number} should be, so a layer is missing: the checkpoint is cut. Save it again."
        )


def _fitting(
    size: tuple[int, int], features: int, width: int, said: tuple[str, ...]
) -> tuple[tuple[int, int], int, tuple[str, ...]]:
    """The square image size that gives these features behind the pooling, where the file does not say another."""
    side = round((features / width) ** 0.5)
    if said and side * side * width == features:
        size, said = (POOL * side, POOL * side), ()
    if width * (size[0] // POOL) * (size[1] // POOL) != features:
        raise InvalidWeight(
            f"The first matrix takes {features} features, but {width} channels of images of {size[0]} x {size[1]} pixels come to it. {INTO}"
        )
    return size, features, said

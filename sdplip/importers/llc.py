"""Networks of 1LLC: `FirstConv`, `Block1.0`, `Block1.2`, ... and `ClassificationHead`, MaxMin behind every layer."""

import re

from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.importers.layer import Imported
from sdplip.importers.layouts import Groups
from sdplip.importers.modules import max_min, module_of
from sdplip.importers.orthonormal import cayley_convolution
from sdplip.importers.parts import COLOURS, ImportedNetwork, head_of, in_order, takes
from sdplip.nn.pooling import FirstChannels
from sdplip.nn.residual import PadChannels

BLOCK = re.compile(r"^Block(\d+)\.(\d+)$")


def llc_network(groups: Groups, layers: list[Imported], classes: int | None) -> ImportedNetwork:
    """Blocks of convolutions with MaxMin, of which half of the channels go on at half of the image size; one matrix or 1 x 1 kernel last."""
    known = {layer.prefix: layer for layer in layers}
    blocks: dict[int, list[str]] = {}
    for prefix in groups:
        if match := BLOCK.match(prefix):
            blocks.setdefault(int(match[1]), []).append(prefix)
    head = next((layer for prefix, layer in known.items() if prefix.startswith("ClassificationHead.")), None)
    if (
        "FirstConv" not in groups
        or head is None
        or sorted(blocks) != list(range(1, len(blocks) + 1))
        or not blocks
    ):
        raise InvalidWeight(
            "A network of 1LLC has `FirstConv`, `Block1`, `Block2`, ... and `ClassificationHead`, but the file lacks one of them: it is cut."
            " Save it again."
        )
    size, said = _image_size(known.get("FirstConv"), len(blocks))
    width = head.weight.array.shape[1] >> len(blocks)
    modules: list[nn.Module] = [PadChannels(width - COLOURS), *_step("FirstConv", groups, known, width, size)]
    pixels = size
    for number in sorted(blocks):
        in_order(blocks[number], f"Block{number}.", 0, 2)
        for prefix in blocks[number]:
            modules += _step(prefix, groups, known, width, pixels)
        modules += [FirstChannels(width // 2), nn.PixelUnshuffle(2)]
        width, pixels = 2 * width, pixels // 2
    takes(head, width)
    end = [module_of(head), nn.Flatten()] if head.weight.array.ndim == 4 else [nn.Flatten(), module_of(head)]
    last, assumed = head_of(None, groups, width, classes)
    said += (
        "Every layer is followed by MaxMin, as in the networks of the paper; images are as they enter the first layer.",
        *assumed,
    )
    model = nn.Sequential(*modules, nn.AdaptiveMaxPool2d(1), *end, *last)
    return ImportedNetwork(model, (COLOURS, size, size), tuple(layers), False, said)


def _image_size(first: Imported | None, blocks: int) -> tuple[int, tuple[str, ...]]:
    """Pixels of a side. Each block halves it, and behind the last one a pixel is left: the networks of the paper."""
    size = None if first is None or first.weight.geometry is None else first.weight.geometry.image_size
    if size is not None and size[0] == size[1]:
        return size[0], ()
    return 2**blocks, (f"Images have {2**blocks} x {2**blocks} pixels, of which {blocks} blocks leave one.",)


def _step(
    prefix: str, groups: Groups, known: dict[str, Imported], width: int, pixels: int
) -> list[nn.Module]:
    """A layer and MaxMin."""
    if prefix not in known:
        if groups[prefix]["weight"].shape[1] != width:
            raise InvalidWeight(
                f"`{prefix}` has another width than the {width} channels that come to it. Save the checkpoint again."
            )
        return [cayley_convolution(prefix, groups[prefix], pixels), max_min()]
    takes(known[prefix], width)
    return [module_of(known[prefix]), max_min()]

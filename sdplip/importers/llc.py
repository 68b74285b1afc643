"""Networks of 1LLC: `FirstConv`, `Block1.0`, `Block1.2`, ... and `ClassificationHead`, MaxMin behind every layer."""

import re

from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.importers.layer import Imported
from sdplip.importers.layouts import Groups
from sdplip.importers.modules import max_min, module_of
from sdplip.importers.parts import COLOURS, ImportedNetwork, head_of, image_size_of, in_order, takes
from sdplip.nn.pooling import FirstChannels
from sdplip.nn.residual import PadChannels

BLOCK = re.compile(r"^Block(\d+)\.(\d+)$")


def llc_network(groups: Groups, layers: list[Imported], classes: int | None) -> ImportedNetwork:
    """Blocks of convolutions with MaxMin, of which half of the channels go on at half of the image size; one matrix or 1 x 1 kernel last."""
    known = {layer.prefix: layer for layer in layers}
    blocks: dict[int, list[Imported]] = {}
    for prefix, layer in known.items():
        if match := BLOCK.match(prefix):
            blocks.setdefault(int(match[1]), []).append(layer)
    head = next((layer for prefix, layer in known.items() if prefix.startswith("ClassificationHead.")), None)
    first = known.get("FirstConv")
    if first is None or head is None or sorted(blocks) != list(range(1, len(blocks) + 1)) or not blocks:
        raise InvalidWeight(
            "A network of 1LLC has `FirstConv`, `Block1`, `Block2`, ... and `ClassificationHead`, but the file lacks one of them: it is cut."
            " Save it again."
        )
    width = first.weight.array.shape[1]
    takes(first, width)
    modules: list[nn.Module] = [PadChannels(width - COLOURS), module_of(first), max_min()]
    for number in sorted(blocks):
        in_order(blocks[number], f"Block{number}.", 0, 2)
        for layer in blocks[number]:
            takes(layer, width)
            modules += [module_of(layer), max_min()]
        modules += [FirstChannels(width // 2), nn.PixelUnshuffle(2)]
        width *= 2
    takes(head, width)
    modules += [nn.AdaptiveMaxPool2d(1), module_of(head), nn.Flatten()]
    size, said = image_size_of(first)
    last, assumed = head_of(None, groups, width, classes)
    said += (
        "Every layer is followed by MaxMin, as in the networks of the paper; images are as they enter the first layer.",
        *assumed,
    )
    return ImportedNetwork(nn.Sequential(*modules, *last), (COLOURS, *size), tuple(layers), False, said)

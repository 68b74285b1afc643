"""Whether the names of layers can be those of a chain: blocks, branches and several networks are not."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sdplip.errors import InvalidWeight
from sdplip.network.read.weights.words import joined
from sdplip.weights.names import Name, parsed


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BLOCKS = _words(
    "attention attn aux auxiliary block blocks bottleneck branch branches cell cells convt deconv denseblock denselayer"
    " downsample embed embedding embeddings ensemble expert experts fuse fusion gate gates gcn gru highway hh identity ih"
    " inception lateral logvar lora lstm merge mixer mu proj projection qkv query recurrent res resblock resblocks residual"
    " residuals resnet rnn shortcut shortcuts side skip skips transformer transition transposed unet upconv upsample whh wxh wh"
    " wx wk wq wv"
)
"""Words of layers that are not simply one after the other."""
TWINS = _words(
    "actor anchor critic dec decoder disc discriminator ema enc encoder gen generator momentum online policy student swa target"
    " teacher value"
)
"""Words of one network among several in a file."""
PLAIN = _words(
    "backbone body classifier clf conv convolutional convs dense fc fcs feature features final first head hidden in input last"
    " layer layers lin linear linears main mlp out output params seq sequential stem trunk"
)
"""Names of parts that follow each other, in the order of the file."""


LETTERS = ({"G", "D"}, {"A", "B", "C"}, {"Q", "K", "V"}, {"q", "k", "v"}, {"U", "V"})
"""Letters of a generator and its discriminator, of a state space, of attention, of a recurrent network."""


def refuse_other_structures(names: Sequence[str], path: Path) -> None:
    """Raises:
    InvalidWeight: names of blocks, of several networks, of parts of which nobody knows how they follow each other.
    """
    if not names:  # all of them are in blocks that the user states
        return
    parts = [parsed(name) for name in names]
    for name, part in zip(names, parts, strict=True):
        words = {token for token in part.tokens if isinstance(token, str)}
        if found := words & BLOCKS:
            raise InvalidWeight(
                f"`{name}` in `{path}` speaks of `{min(found)}`: the file does not say what is added, repeated or left aside."
                f" {REMEDY}"
            )
        if found := words & TWINS:
            others = [n for n, p in zip(names, parts, strict=True) if not found & set(p.tokens)]
            if others or len(found) > 1:
                raise _several([name, *others[:1]], path)
    for letters in LETTERS:
        held = [name for name, part in zip(names, parts, strict=True) if part.path[0] in letters]
        if {parsed(name).path[0] for name in held} == letters:
            raise _several(held[:2], path)
    containers = _without_common(parts)
    _refuse_numbered(names, containers, path)
    _refuse_several(names, parts, containers, path)


REMEDY = (
    "Export the network to ONNX, which says it; or say it: `--structure residual` (x + f(x)), `resnet` (an activation behind the"
    " sum) or `chain`, `--geometry FILE.toml`, or `--layer` for its layers, first layer first."
)


def _without_common(parts: Sequence[Name]) -> list[tuple[str, ...]]:
    """What contains each layer, without the beginning that all share (`module.`, `params/`)."""
    containers = [part.container for part in parts]
    while containers[0] and all(c and c[0] == containers[0][0] for c in containers):
        containers = [c[1:] for c in containers]
    return containers


def _refuse_numbered(names: Sequence[str], containers: Sequence[tuple[str, ...]], path: Path) -> None:
    """Numbered parts with several layers each may be blocks under any name."""
    held = Counter(c[: k + 1] for c in containers for k in range(len(c)) if any(map(str.isdigit, c[k])))
    for part, count in held.items():
        if count > 1:
            inside = [n for n, c in zip(names, containers, strict=True) if c[: len(part)] == part]
            raise InvalidWeight(
                f"{joined(inside, 3)} in `{path}` are layers of one part, `{'.'.join(part)}`, which may be a block: the file does"
                f" not say. {REMEDY}"
            )


def _refuse_several(
    names: Sequence[str], parts: Sequence[Name], containers: Sequence[tuple[str, ...]], path: Path
) -> None:
    """Parts under different names may be several networks."""
    first = {name: c[0] if c else "" for name, c in zip(names, containers, strict=True)}
    heads = {head for head in first.values() if head}
    strange = sorted(head for head in heads if head.rstrip("0123456789").rstrip("_").lower() not in PLAIN)
    if strange and len(heads) > 1:
        one = next(name for name in names if first[name] == strange[0])
        other = next(name for name in names if first[name] != strange[0])
        raise _several([one, other], path)
    ends = Counter(
        part.path[len(part.container) :] for part, c in zip(parts, containers, strict=True) if c or heads
    )
    twice = [n for n, p in zip(names, parts, strict=True) if ends[p.path[len(p.container) :]] > 1]
    if strange and len(twice) > 1:
        raise _several(twice[:2], path)


def _several(names: Sequence[str], path: Path) -> InvalidWeight:
    return InvalidWeight(
        f"{joined(names)} in `{path}` are of different parts, perhaps of different networks, and the file does not say how they"
        f" follow each other. {REMEDY}"
    )

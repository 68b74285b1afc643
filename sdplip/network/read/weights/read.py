"""From a file of bare weights, or from arrays, to a network and the words that say how it was understood."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.network.graph import Network
from sdplip.network.read.understood import Understood
from sdplip.network.read.weights.assumptions import Assumptions
from sdplip.network.read.weights.build import network_of
from sdplip.network.read.weights.chain import Chain, Layer, read_chain
from sdplip.network.read.weights.words import joined
from sdplip.shapes import Float
from sdplip.weights import Weight
from sdplip.weights.sniff import sniff

NOTHING = Assumptions()


def read_weights_network(
    path: str | PathLike[str], assumptions: Assumptions = NOTHING, *, biases: bool = False
) -> Understood:
    """The network of a file that holds weights and nothing else, under assumptions that are all said in words.

    Every array of the file is in the network or in `left_out`. `reading` is what `Assumptions.from_json` takes, so that the same
    file gives the same network again.

    Args:
        path: a .npy, .npz, .mat, .pt, .pth, .safetensors, .nnet, .csv or .h5 file, also packed as .gz.
        assumptions: what the user says.
        biases: whether they matter: on a region and in a forward pass.

    Raises:
        UnreadableFile, MissingDependency: as `sdplip.weights.read`.
        UnknownLayer: the assumptions name what the file does not hold.
        InvalidWeight: the file may hold another network; the message names what says it, and the option.
    """
    path = Path(path)
    chain = read_chain(path, assumptions, biases=biases)
    network = network_of(chain.layers, chain.said, chain.blocks, certain=chain.certain)
    first, *more = chain.sentences
    said = (first, *_activation(chain, sniff(path)), *more, *_images(chain, chain.said))
    return Understood(network, assumptions.to_json(), said, chain.left_out)


def weights_network(
    weights: Iterable[Weight | Float[np.ndarray, "..."]],
    activation: str = "relu",
    biases: Sequence[Float[np.ndarray, " m"] | None] | None = None,
    *,
    assumptions: Assumptions = NOTHING,
) -> Network:
    """The network of matrices and kernels, first layer first, with `activation` between them.

    Args:
        weights: `(out, in)` matrices and `(out, in / groups, *taps)` kernels, as `sdplip.weights.read` returns them, or arrays.
        activation: as `between` knows them.
        biases: one vector or None for each weight; None is 0.
        assumptions: image size and the like; of a kernel that says nothing itself, how it moves.

    Raises:
        InvalidWeight: widths that do not fit, kernels without image size, an activation that is not known.
    """
    given = [
        w if isinstance(w, Weight) else Weight(f"layer {k}", np.asarray(w)) for k, w in enumerate(weights)
    ]
    vectors = [None] * len(given) if biases is None else list(biases)
    if not given or len(vectors) != len(given):
        raise InvalidWeight(
            f"{len(given)} weights need as many biases, not {len(vectors)}, and at least one weight."
        )
    general = {k: v for k, v in assumptions.geometry.get("", {}).items() if not k.endswith("_pool")}
    layers = [
        Layer(w.name, w.array, b, (w.geometry or Geometry(**general)) if w.array.ndim > 2 else None)
        for w, b in zip(given, vectors, strict=True)
    ]
    said = replace(assumptions, activation=assumptions.activation or activation, geometry={})
    return network_of(layers, said)


def _activation(chain: Chain, form: str) -> list[str]:
    assumptions = chain.said
    behind = [layer.behind for layer in chain.layers if layer.behind]
    if behind:
        return [f"Behind them stand {', '.join(behind)}, as the configuration in the file says."]
    if len(chain.layers) == 1 and not chain.blocks:
        return []
    where = "behind every layer outside of blocks" if chain.blocks else "between them"
    if assumptions.slopes:
        low, high = assumptions.slopes
        what = f"Functions with slopes in [{low!r}, {high!r}] stand {where}, as was said"
    elif assumptions.activation:
        what = f"{assumptions.activation} stands {where}, as was said"
    elif form == "nnet":
        what = "relu stands between them, as in every .nnet file"
    else:
        what = f"relu stands {where}, which is assumed"
    bare = f"Nothing stands behind {joined(assumptions.bare)}, as was said."
    return [f"{what}, and nothing behind the last.", *([bare] if assumptions.bare else [])]


def _images(chain: Chain, assumptions: Assumptions) -> list[str]:
    kernels = [layer for layer in chain.layers if layer.W.ndim > 2]
    if not kernels:
        return []
    size = assumptions.image_size
    size = size if isinstance(size, tuple) else (size,) * (kernels[0].W.ndim - 2)
    said = [f"Images have {' x '.join(map(str, size))} pixels, as was said."]
    matrices = [layer for layer in chain.layers if layer.W.ndim == 2]
    if matrices and assumptions.average:
        said.append(f"`{matrices[0].name}` takes the mean of every channel, as was said.")
    elif matrices and assumptions.flatten:
        said.append(f"`{matrices[0].name}` counts pixels in the order {assumptions.flatten}, as was said.")
    elif matrices:
        said.append(f"`{matrices[0].name}` counts pixels channels first, which is assumed.")
    return said

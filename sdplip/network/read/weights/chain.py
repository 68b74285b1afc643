"""What a file of weights holds as a chain: layers in order, each with the bias of its name, and everything that was assumed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.network.read.weights.assumptions import POOLS, Assumptions
from sdplip.network.read.weights.blocks import Block, blocks_of, full_name
from sdplip.network.read.weights.blocks import sentences as of_blocks
from sdplip.network.read.weights.geometry import ASSUMED, Placed, Pool, check_names, placed
from sdplip.network.read.weights.keras import Model, model_of
from sdplip.network.read.weights.norms import Norm, of_keras
from sdplip.network.read.weights.order import arranged
from sdplip.network.read.weights.sorted import Sorted, all_arrays, chosen_arrays
from sdplip.network.read.weights.structure import refuse_other_structures
from sdplip.network.read.weights.words import counted, joined
from sdplip.shapes import Float
from sdplip.stored import widened
from sdplip.weights import hdf5, keras, mat, safetensors
from sdplip.weights.layers import known_names, upright
from sdplip.weights.names import parsed, says_kernel
from sdplip.weights.read import ARRAYS
from sdplip.weights.sniff import FORMS, sniff
from sdplip.weights.weight import checked

KERNEL = "/kernel"
"""End of the names of weights of Keras."""
CONFIGURATIONS = {"hdf5": hdf5.configuration, "keras": keras.configuration}
"""Formats that may hold what Keras says about a whole model."""
SAY_ORDER = {"safetensors": lambda _: False, "hdf5": hdf5.says_order, "mat": mat.says_order}
"""Whether a file keeps the order in which arrays were written; those of other formats do."""
RUN = "sdplip"
"""What the metadata of safetensors files in run folders hold."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer: its name in the file, `(out, in)` or `(out, in / groups, *taps)`, its bias, and how a kernel moves."""

    name: str
    W: Float[np.ndarray, "out in *taps"]
    b: Float[np.ndarray, " out"] | None = None
    geometry: Geometry | None = None
    pool: Pool | None = None
    norm: Norm | None = None
    behind: str | None = None
    """The activation behind it, where the file says one; None is what was assumed."""


@dataclass(frozen=True, eq=False)
class Chain:
    """Layers, first layer first.

    Attributes:
        layers: at least one.
        sentences: what was assumed, and what the file or the user said where files differ.
        left_out: `(array, why)` of every array that is not in the layers.
        certain: whether all biases are known.
    """

    layers: tuple[Layer, ...]
    sentences: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    certain: bool
    said: Assumptions
    """What was said by the user, or by the file."""
    blocks: tuple[Block, ...] = ()


def read_chain(path: Path, assumptions: Assumptions, *, biases: bool = False) -> Chain:
    """The chain of a file that is not ONNX; `biases` says that they matter, as they do on a region and in a forward pass.

    Raises:
        UnreadableFile, MissingDependency: as `sdplip.weights.read`.
        UnknownLayer: the assumptions name what the file does not hold.
        InvalidWeight: the file may hold another network than a chain, arrays that may multiply, several orders, biases that
            belong to no layer and matter.
    """
    form = sniff(path)
    if form == "onnx":
        raise InvalidWeight(f"`{path}` is a graph, which says itself how its layers follow each other.")
    if assumptions.transpose is not None and form == "nnet":
        raise InvalidWeight(
            f"`{path}` says which way its weights act, so they are (out, in) already and `transpose` would be wrong. Drop it."
        )
    if form == "nnet" and (assumptions.slopes or (assumptions.activation or "relu").lower() != "relu"):
        raise InvalidWeight(
            f"`{path}` has relu between its layers, as its format says: no other activation can be assumed. Save the weights as .npz."
        )
    if form == "safetensors" and RUN in safetensors.metadata(path):
        raise InvalidWeight(
            f"`{path}` holds the parameters of a run of `sdplip train`, not the weights that its layers apply. Use"
            " `sdplip certify` with the folder of the run, or export the network: `sdplip.nn.save_plain`."
        )
    arrays = ARRAYS[form](path)
    config = CONFIGURATIONS[form](path) if form in CONFIGURATIONS else None
    model = None if config is None else model_of(config, path)
    if model:
        assumptions = _of_model(model, assumptions, path)
    if assumptions.layers:
        found = chosen_arrays(arrays, assumptions.layers, path)
        found = _with_norms(found, model, arrays, path) if model else found
    else:
        said = assumptions.structure is not None or bool(assumptions.blocks)
        found = all_arrays(arrays, assumptions.ignore, form, path, paired=said)
    nameless = "" in arrays  # the name of a file says nothing
    turn = False if nameless and assumptions.transpose is None else assumptions.transpose
    stored = {name: upright(name, array, turn) for name, array in found.layers.items()}
    if assumptions.layers:
        names = list(stored)
        order = "as the configuration in the file says" if model else "as they were named"
    else:
        if form == "hdf5" and (merging := hdf5.merges(path)):
            raise InvalidWeight(
                f"`{path}` holds weights of a network with a layer `{merging[0]}`, and does not say which values meet there. Export"
                " the network to ONNX; or, if its layers are a chain, name them with `--layer`, first layer first."
            )
        if assumptions.structure != "chain":
            aside = [name for block in blocks_of(list(stored), assumptions, path) for name in block.names]
            refuse_other_structures([name for name in stored if name not in aside], path)
        ordered = SAY_ORDER.get(form, lambda _: True)(path)
        names, order = arranged({name: W.shape for name, W in stored.items()}, path, ordered=ordered)
    blocks = blocks_of(names, assumptions, path)
    bare = known_names([full_name(name, names) for name in assumptions.bare], names)
    weights = {
        name: upright(name, checked(name, found.layers[name], path, zero=True), turn) for name in names
    }
    vectors, unpaired = _paired(weights, found.biases, path)
    if biases and (unpaired or found.loose):
        raise InvalidWeight(
            f"The biases matter here, but {joined(unpaired or found.loose)} in `{path}` belongs to no layer by its name. Call"
            " the bias as its weight, `fc1.weight` and `fc1.bias` or `W1` and `b1`, or export the network to ONNX."
        )
    kernels = [name for name in names if weights[name].ndim > 2]
    check_names(kernels, assumptions.geometry)
    moves = {name: placed(name, assumptions) for name in kernels}
    left = [*found.left_out, *((name, "a bias that belongs to no layer by its name") for name in unpaired)]
    sentences = [
        _order(names, order, blocks),
        *of_blocks(blocks),
        _orientation(names, form, assumptions.transpose, nameless=nameless),
        *_biases(names, vectors, [*unpaired, *found.loose]),
        *(_moves(name, moves[name]) for name in kernels),
        *(norm.sentence for norm in found.norms.values()),
        *_prepared(found, form),
    ]
    return Chain(
        tuple(
            replace(
                _layer(name, weights[name], vectors.get(name), moves.get(name), model),
                norm=found.norms.get(name),
            )
            for name in names
        ),
        tuple(sentence for sentence in sentences if sentence),
        tuple(left),
        not unpaired and not found.loose,
        replace(assumptions, bare=tuple(bare)),
        blocks,
    )


def _layer(name: str, W: np.ndarray, b: np.ndarray | None, move: Placed | None, model: Model | None) -> Layer:
    behind = model.activations.get(name.removesuffix(KERNEL), "identity") if model else None
    if move is None:
        return Layer(name, W, b, behind=behind)
    return Layer(name, W, b, move.geometry, move.pool, behind=behind)


def _with_norms(found: Sorted, model: Model, arrays: Mapping[str, np.ndarray], path: Path) -> Sorted:
    norms, taken = of_keras(arrays, model.norms, KERNEL, path)
    left = tuple((name, why) for name, why in found.left_out if name not in taken)
    return replace(found, norms=norms, left_out=left)


def _of_model(model: Model, assumptions: Assumptions, path: Path) -> Assumptions:
    """What the configuration of a model says; nobody need say it again.

    Raises:
        InvalidWeight: the user says something too.
    """
    if assumptions.to_json():
        said = ", ".join(key.replace("_", " ") for key in assumptions.to_json())
        raise InvalidWeight(
            f"`{path}` says itself which network it is, so nothing need be said ({said}). Drop the option."
        )
    return Assumptions(
        layers=tuple(f"{name}{KERNEL}" for name in model.layers),
        image_size=model.image_size if model.moves else None,
        geometry={f"{name}{KERNEL}": moves for name, moves in model.moves.items()},
        flatten="hwc" if model.moves and not model.average and len(model.layers) > len(model.moves) else None,
        average=model.average,
    )


def _paired(
    weights: Mapping[str, np.ndarray], biases: Mapping[str, np.ndarray], path: Path
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The bias of each layer by its name, and the biases that belong to none.

    Raises:
        InvalidWeight: two biases for one layer, or one of another length.
    """
    layers: dict[tuple[str | int, ...], list[str]] = {}
    for name in weights:
        layers.setdefault(parsed(name).key, []).append(name)
    found, unpaired = dict[str, np.ndarray](), list[str]()
    for name, b in biases.items():
        owners = layers.get(parsed(name, vector=True).key, [])
        if len(owners) != 1:
            unpaired.append(name)
            continue
        (owner,) = owners
        if owner in found:
            raise InvalidWeight(
                f"`{owner}` in `{path}` has two biases by their names, one is `{name}`. Rename one."
            )
        if len(b) != len(weights[owner]):
            raise InvalidWeight(
                f"`{name}` in `{path}` holds {len(b)} numbers, but `{owner}` makes {len(weights[owner])}: it is no bias of it as"
                " it stands. If the file stores (in, out), say `--transpose`; else rename it."
            )
        found[owner] = _finite(name, b, path)
    return found, unpaired


def _finite(name: str, b: np.ndarray, path: Path) -> np.ndarray:
    if not np.isfinite(b).all():
        raise InvalidWeight(f"`{name}` in `{path}` is not finite. Repair or retrain the layer.")
    return widened(b)


def _order(names: Sequence[str], order: str, blocks: Sequence[Block]) -> str:
    if len(names) == 1:
        return f"`{names[0]}` is the whole network."
    if blocks:
        return f"The layers {joined(names)} follow each other {order}, in blocks as follows, with nothing else beside them."
    return f"The layers {joined(names)} follow each other {order}, with nothing beside them."


def _orientation(names: Sequence[str], form: str, transpose: bool | None, *, nameless: bool) -> str:
    if form == "nnet":
        return ""
    if transpose is not None:
        return f"Weights are stored as {'(in, out)' if transpose else '(out, in)'}, as was said."
    turned = [name for name in names if says_kernel(name) and not nameless]
    upright = [name for name in names if name not in turned]
    said = [f"{joined(turned, 3)}: (in, out), as the name `kernel` says"] if turned else []
    if upright:
        known = all(parsed(name).path[-1].lower() == "weight" for name in upright) and form in (
            "torch",
            "safetensors",
        )
        said.append(
            f"{joined(upright, 3)}: (out, in), {'as torch stores them' if known else 'which is assumed'}"
        )
    return f"Weights are stored as {'; '.join(said)}."


def _biases(names: Sequence[str], found: Mapping[str, np.ndarray], unknown: Sequence[str]) -> list[str]:
    without = [name for name in names if name not in found]
    if unknown:
        return [f"{joined(unknown)} may be biases; a bound over all inputs does not depend on them."]
    if not found:
        return ["The file holds no biases: they are taken as 0."]
    return (
        [f"{joined(without)} {'have' if len(without) > 1 else 'has'} no bias in the file: it is taken as 0."]
        if without
        else []
    )


def _moves(name: str, move: Placed) -> str:
    def value(key: str) -> str:
        number = move.said.get(key, ASSUMED.get(key))
        return counted(number) if isinstance(number, tuple) else str(number)

    said = [f"{key.replace('_', ' ')} {value(key)}" for key in ASSUMED if key in move.said]
    assumed = [f"{key.replace('_', ' ')} {value(key)}" for key in ASSUMED if key not in move.said]
    parts = [f"{', '.join(said)}, as was said"] if said else []
    parts += [f"{', '.join(assumed)}, which is assumed"] if assumed else []
    pools = [f"then {key.replace('_', ' ')} {value(key)}" for key in POOLS if key in move.said]
    return f"`{name}` moves with {'; '.join([*parts, *pools])}."


def _prepared(found: Sorted, form: str) -> list[str]:
    if not found.prepared:
        return []
    if form == "nnet":
        return [f"Inputs and outputs are those that the {FORMS[form].split()[0]} file calls normalised."]
    return [
        f"{joined(found.prepared)} prepare the inputs in front of the network, whose inputs are the prepared ones."
    ]

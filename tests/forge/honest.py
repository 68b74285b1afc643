"""Small weight files of every kind, honest certificates about them of every rule, and a judge for each file."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.bounds import exact_bound, expansion
from sdplip.bounds.methods import METHODS, riccati, rows
from sdplip.bounds.methods.norm import norm_proof
from sdplip.bounds.regional import split_bound
from sdplip.bounds.task import Proven, Task
from sdplip.errors import NotProvable
from sdplip.geometry import Geometry
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Norm, Proof
from sdplip.kernel.regions import Ball, Box, Cut, Region
from sdplip.kernel.rules.folded import fold
from sdplip.kernel.rules.local import local_network
from sdplip.kernel.rules.narrow import narrowed
from sdplip.network import (
    Activation,
    Average,
    Builder,
    Concatenate,
    Convolution,
    Dense,
    Diagonal,
    Equilibrium,
    Gather,
    Grouped,
    Maximum,
    Network,
    Norms,
    OnAxis,
    Scatter,
    Sort,
    Sum,
    Transposed,
    chain,
)
from sdplip.network.file import write_network
from sdplip.network.read.file import read_file
from sdplip.proposals import certify, certify_convolution
from sdplip.robustness.around import enlarge
from sdplip.robustness.graph_accuracy import certify_graph
from sdplip.robustness.graph_dense import certify_dense_graph
from sdplip.verifier.claim import LipschitzClaim, Output
from sdplip.verifier.condition import condition_claim, condition_proof
from sdplip.verifier.document import Document, Entry, digest, write
from sdplip.verifier.expansion import ExpansionClaim
from tests.forge.graphs import network_file, small_onnx
from tests.forge.truth import Judge
from tests.forge.worlds import World, is_real, of_arrays

Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Case:
    """An honest certificate.

    Attributes:
        kind: of claim and rule, for the table.
        file: that it is about.
        text: the certificate.
        images: that a claim of accuracy is about.
        judge: of the file.
    """

    kind: str
    file: Path
    text: str
    judge: Judge
    images: Path | None = None

    @property
    def document(self) -> Json:
        return json.loads(self.text)


def every_case(folder: Path) -> list[Case]:
    """All of them; files are written into the folder."""
    return [
        *_chains(folder), *_expanding(folder), *_wide(folder), *_images(folder), *_graphs(folder), *_onnx(folder), *_conditions(folder),
        *_accuracies(folder), *_pixels(folder), *_implicit(folder),
    ]  # fmt: skip


def rules_of(proof: Json) -> set[str]:
    """The rules of a proof."""
    return {proof["rule"]}.union(*map(rules_of, proof.get("parts", [])))


def case(
    kind: str,
    file: Path,
    reading: Json,
    entries: list[tuple[Any, Proof]],
    judge: Judge,
    images: Path | None = None,
) -> Case:
    """The certificate of claims and proofs."""
    path = file.with_suffix(".json")
    made = tuple(Entry(claim.to_json(), proof) for claim, proof in entries)
    write(path, Document(digest(file), reading, made), "forge")
    return Case(kind, file, path.read_text(), judge, images)


def _saved(folder: Path, name: str, arrays: Mapping[str, np.ndarray]) -> tuple[Path, Judge]:
    """A file of bare arrays, and its judge."""
    file = folder / name
    if file.suffix == ".mat":
        from scipy.io import savemat

        savemat(file, dict(arrays))
    else:
        np.savez(file, **arrays)
    return file, judge_of_arrays(arrays)


def judge_of_arrays(arrays: Mapping[str, np.ndarray]) -> Judge:
    """The judge of a file of bare arrays."""

    def layer(name: str, transpose: bool) -> np.ndarray | None:
        W = arrays.get(name)
        if W is None or not is_real(W) or W.ndim < 2:
            return None
        W = W.astype(np.float64)
        if not transpose:
            return W
        return W.T if W.ndim == 2 else np.moveaxis(W, (-1, -2), (0, 1))

    return Judge(lambda reading: of_arrays(arrays, reading), layer, names=frozenset(arrays))


def _layers(
    rng: np.random.Generator, *widths: int, weight: str = "fc{}.weight", bias: str = "fc{}.bias"
) -> dict:
    found = {}
    for k, (n, m) in enumerate(pairwise(widths), 1):
        found[weight.format(k)] = rng.normal(size=(m, n)) / np.sqrt(n)
        if bias:
            found[bias.format(k)] = 0.3 * rng.normal(size=m)
    return found


def _claimed(
    network: Network, method: str, *, output: Output = (), norm: Norm = "l2", region: Region | None = None
) -> tuple[LipschitzClaim, Proof]:
    """The best claim of a method, as `sdplip.bounds.bound` makes it, without what that looks for from below."""
    claim = LipschitzClaim(0.0, output, norm, region)
    goal = claim.goal(network)

    def best(task: Task) -> Proven:
        return min(METHODS[method].propose(task), key=lambda proven: proven.bound)

    task = Task(goal.network if region is None else local_network(goal.network, region), norm)
    proof = (rows.propose(task, best)[1] if norm == "linf" else best(task)).proof
    proof = proof if region is None else Proof("local", {}, (proof,))
    return replace(claim, bound=conclude(goal, proof)), proof


def _chains(folder: Path) -> Iterator[Case]:
    """Matrices and relu: every rule of chains, all outputs, one pair, the largest, regions."""
    rng = np.random.default_rng(6)
    file, judge = _saved(folder, "chain.npz", _layers(rng, 2, 3, 3, 2))
    network = read_file(file).network
    for method in ("product", "riccati", "composite", "lipsdp-neuron"):
        yield case(f"lipschitz, {method}", file, {"kind": "weights"}, [_claimed(network, method)], judge)
    (joint,) = riccati.by_one_inequality(Task(network))
    yield case(
        "lipschitz, joint", file, {"kind": "weights"}, [(LipschitzClaim(joint.bound), joint.proof)], judge
    )
    yield from _patterns(folder)
    two = [_claimed(network, "pairs"), _claimed(network, "pairs", output=(0, 1))]
    yield case("lipschitz, pairs", file, {"kind": "weights"}, two, judge)
    hand = {
        "fc1.weight": np.array([[1.0, -3.0], [2.0, -1.0], [2.0, 2.0]]),
        "fc2.weight": np.array([[3.0, -3.0, 3.0]]),
    }
    by_hand, its_judge = _saved(folder, "pairs.npz", hand)
    claimed = _claimed(read_file(by_hand).network, "pairs")
    yield case("lipschitz, pairwise", by_hand, {"kind": "weights"}, [claimed], its_judge)
    several = [
        _claimed(network, "lipsdp-neuron"),
        _claimed(network, "lipsdp-neuron", output=(0, 1)),
        _claimed(network, "lipsdp-neuron", norm="linf"),
        _claimed(network, "riccati", norm="linf"),
    ]
    yield case("lipschitz, several", file, {"kind": "weights"}, several, judge)
    box = Box(np.array([0.1, -0.2]), np.array([0.6, 0.3]))
    regions: list[Region] = [Ball(np.array([0.2, -0.1]), 0.4), box, Cut(Ball(np.array([0.3, 0.0]), 0.4), box)]
    for region in regions:
        first = [_claimed(network, "riccati", region=region)]
        second = [_claimed(network, "product", region=region, norm="linf"), _claimed(network, "riccati", region=region, output=(1, 0))]  # fmt: skip
        for claims in (first, second):
            yield case("lipschitz, local", file, {"kind": "weights"}, claims, judge)
    wide = Box(np.full(2, -1.0), np.full(2, 1.0))
    for region in (wide, Ball(np.zeros(2), 0.9)):
        found = split_bound(network, region, 6, "product", seconds=1)
        claims = [(LipschitzClaim(found.bound, region=region), found.proof)]
        yield case("lipschitz, cut", file, {"kind": "weights"}, claims, judge)
    others = _layers(rng, 2, 4, 4, 2, weight="W{}", bias="b{}")
    file, judge = _saved(
        folder, "plain.mat", {k: v if v.ndim == 2 else v[:, None] for k, v in others.items()}
    )
    for reading in (
        {"kind": "weights", "activation": "leaky_relu:0.2"},
        {"kind": "weights", "activation": "tanh"},
        {"kind": "weights", "activation": "maxmin"},
        {"kind": "weights", "slopes": [-0.25, 0.75]},
        {"kind": "weights", "layers": ["W1", "W3"], "activation": "abs"},
        {"kind": "weights", "activation": "groupsort:4"},
    ):
        network = read_file(file, reading).network
        claims = [_claimed(network, method) for method in ("product", "lipsdp-neuron")]
        yield case("lipschitz, activations", file, reading, claims, judge)
    stored = {name: W.T.copy() if W.ndim == 2 else W for name, W in _layers(rng, 3, 3, 3, 2).items()}
    file, judge = _saved(folder, "stored.npz", stored)
    reading = {"kind": "weights", "transpose": True}
    yield case(
        "lipschitz, transposed", file, reading, [_claimed(read_file(file, reading).network, "riccati")], judge
    )


def _expanding(folder: Path) -> Iterator[Case]:
    """Invertible chains: a lower constant beside an upper one."""
    rng = np.random.default_rng(9)
    arrays = {
        name: W + 2 * np.eye(*W.shape) if W.ndim == 2 else W for name, W in _layers(rng, 2, 3, 3).items()
    }
    file, judge = _saved(folder, "expanding.npz", arrays)
    for activation in ("leaky_relu:0.5", "leaky_relu:0.8"):
        reading = {"kind": "weights", "activation": activation}
        network = read_file(file, reading).network
        found = expansion(network, samples=1)
        claims = [(ExpansionClaim(found.lower), found.proof), _claimed(network, "lipsdp-neuron")]
        yield case("expansion", file, reading, claims, judge)


def _patterns(folder: Path) -> Iterator[Case]:
    """Trees of patterns with empty leaves: for all inputs, in regions, of pairs and of the largest output, under two readings."""
    arrays = _layers(np.random.default_rng(4), 2, 4, 4, 2)
    file, judge = _saved(folder, "patterns.npz", arrays)
    box, ball = Box(np.array([-0.4, -0.3]), np.array([0.5, 0.6])), Ball(np.array([0.1, -0.2]), 0.6)
    for activation in ("relu", "maxmin"):
        reading = {"kind": "weights", "activation": activation}
        network, empties = read_file(file, reading).network, 0
        claims = []
        for region, norm, output in (
            (None, "l2", ()),
            (None, "linf", ()),
            (box, "l2", ()),
            (ball, "l2", (0, 1)),
        ):
            pair = output if len(output) == 2 else None
            found = exact_bound(network, region=region, output_norm=norm, output_pair=pair)
            claims.append((LipschitzClaim(found.bound, output, norm, region), found.proof))
            empties += list(found.proof.data.get("fork", ())).count(-2)
        assert empties, "without an empty leaf nothing about biases is tried"
        yield case("lipschitz, patterns", file, reading, claims, judge)


def _wide(folder: Path) -> Iterator[Case]:
    """More inputs than neurons."""
    file, judge = _saved(folder, "wide.npz", _layers(np.random.default_rng(1), 6, 2, 3, 3, bias=""))
    network = read_file(file).network
    (inner,) = riccati.by_one_inequality(Task(narrowed(network)))
    proof = Proof("narrow", {}, (inner.proof,))
    claim = LipschitzClaim(conclude(Goal(network), proof))
    yield case(
        "lipschitz, narrow",
        file,
        {"kind": "weights"},
        [(claim, proof), _claimed(network, "lipsdp-neuron")],
        judge,
    )


def _images(folder: Path) -> Iterator[Case]:
    """Kernels in a row on a small image, under several geometries."""
    rng = np.random.default_rng(2)
    arrays = {
        "conv1.weight": rng.normal(size=(2, 1, 3)) / 2,
        "conv1.bias": 0.2 * rng.normal(size=2),
        "conv2.weight": rng.normal(size=(2, 2, 3)) / 2,
        "fc.weight": rng.normal(size=(2, 12)) / 3,
    }
    file, judge = _saved(folder, "image.npz", arrays)
    for moves in ({"padding_mode": "circular"}, {"padding": 1}):
        reading = {"kind": "weights", "image_size": 6, "geometry": {"": moves}}
        network = read_file(file, reading).network
        claims = [_claimed(network, method) for method in ("product", "lipsdp-neuron")]
        claims.append(_claimed(network, "product", region=Ball(np.linspace(-1, 1, 6), 0.5)))
        yield case("lipschitz, images", file, reading, claims, judge)
    for method, moves in (("frequency", {"padding_mode": "circular"}), ("banded", {"padding": 1})):
        for layers in (["conv1.weight", "conv2.weight"], []):
            reading = {"kind": "weights", "image_size": 6, "geometry": {"": moves}, "layers": layers}
            network = read_file(file, reading).network
            yield case(f"lipschitz, {method}", file, reading, [_claimed(network, method)], judge)


def graph(seed: int = 3) -> Network:
    """A network with nodes of every kind."""
    rng = np.random.default_rng(seed)
    b = Builder((4,))
    first = b.add(Dense(rng.normal(size=(6, 4)) / 2, 0.3 * rng.normal(size=6)), 0)
    bent = b.add(Activation("relu", 6), first)
    back = b.add(Sort(np.array([[0, 3], [4, 1]]), 6), b.add(OnAxis(rng.normal(size=(3, 3)) / 2, 2, 1), bent))
    total = b.add(Sum((1, -1), 6), first, back)
    conv = b.add(Convolution(rng.normal(size=(2, 1, 3)) / 2, (6,), (2,), ((1, 1),), (1,)), total)
    high = b.add(Maximum(np.array([[0, 1, 2], [2, 3, -1], [4, 5, 0]]), 6), conv)
    mean = b.add(Average(np.array([[0, 1], [1, 2]]), np.array([2.0, 2.0]), 3), high)
    side = b.add(Concatenate((6, 2)), b.add(Activation("tanh", 6), conv), mean)
    moved = b.add(Gather(np.array([7, 0, 1, 6, -1, 3, 2, 2]), 8), side)
    half = Convolution(rng.normal(size=(1, 1, 2)) / 2, (8,), (2,), ((0, 0),), (1,))
    up = b.add(Transposed(half), b.add(Scatter(np.array([0, 1, 2, 3, 3, 2, -1, 0]), 4), moved))
    scaled = b.add(Diagonal(rng.normal(size=8), 0.1 * rng.normal(size=8)), up)
    lengths = b.add(Norms(np.array([[0, 1], [2, 3], [4, 7]]), 8), scaled)
    soft = b.add(Grouped("softmax", np.array([[0, 2, 1]]), 3), lengths)
    return b.finish(b.add(Dense(rng.normal(size=(2, 3)), rng.normal(size=2)), soft))


def implicit_arrays() -> dict[str, np.ndarray]:
    """A monDEQ of three hidden units, far from a contraction."""
    rng = np.random.default_rng(4)
    A, S = rng.normal(size=(2, 3, 3))
    W = 0.6 * np.eye(3) - A.T @ A / 3 + 2 * (S - S.T)
    return {
        "W": W,
        "U": rng.normal(size=(3, 2)),
        "G": rng.normal(size=(2, 3)),
        "D": rng.normal(size=(2, 2)),
        "b": rng.normal(size=3),
    }


def _implicit(folder: Path) -> Iterator[Case]:
    """Equilibrium networks as bare arrays, and in a graph."""
    file, judge = _saved(folder, "implicit.npz", implicit_arrays())
    reading: Json = {"kind": "equilibrium"}
    network = read_file(file).network
    claims = [
        _claimed(network, "equilibrium"),
        _claimed(network, "equilibrium", output=(0, 1)),
        _claimed(network, "equilibrium", norm="linf"),
    ]
    yield case("lipschitz, equilibrium", file, reading, claims, judge)
    reading = {"kind": "equilibrium", "activation": "tanh"}
    claims = [_claimed(read_file(file, reading).network, "equilibrium")]
    yield case("lipschitz, equilibrium", file, reading, claims, judge)
    a = {name: 0.7 * array for name, array in implicit_arrays().items()}
    ops = [
        Dense(a["U"], a["b"]),
        Equilibrium(a["W"]),
        Dense(a["G"] @ a["W"]),
        Activation("tanh", 2),
        Dense(a["D"]),
    ]
    file, network = folder / "implicit.safetensors", chain(ops)
    write_network(file, network)
    judge = Judge(lambda reading, file=file: network_file(file) if reading == {"kind": "network"} else None)
    claims = [_claimed(network, method) for method in ("product", "equilibrium")]
    yield case("lipschitz, implicit file", file, {"kind": "network"}, claims, judge)


def _graphs(folder: Path) -> Iterator[Case]:
    """A network file; its judge reads the file again, which forgers may change too."""
    file = folder / "graph.safetensors"
    network = graph()
    write_network(file, network)
    judge = Judge(lambda reading, file=file: network_file(file) if reading == {"kind": "network"} else None)
    ball = Ball(np.full(4, 0.2), 0.3)
    claims = [
        _claimed(network, "product"),
        _claimed(network, "lipsdp-neuron", norm="linf"),
        _claimed(network, "product", region=ball, output=(0, 1)),
    ]
    for chosen in (claims[:2], claims[2:]):
        yield case("lipschitz, network file", file, {"kind": "network"}, chosen, judge)
    file = folder / "normalised.safetensors"
    network = normalised()
    write_network(file, network)
    judge = Judge(lambda reading, file=file: network_file(file) if reading == {"kind": "network"} else None)
    (claim, proof), parts = _claimed(network, "product"), {}
    for ends, part in zip(proof.data["spans"], proof.parts, strict=True):
        parts[ends[1]] = (list(ends), part)
    conv = next(k for k, node in enumerate(network.nodes, 1) if isinstance(node.op, Convolution))
    op, _ = fold(network.between(conv - 1, conv + 1))
    parts.pop(conv, None)
    parts[conv + 1] = ([conv - 1, conv + 1], Proof("folded", {}, (norm_proof(chain([op])),)))
    spans = [parts[k] for k in sorted(parts)]
    other = Proof("layers", {"spans": [ends for ends, _ in spans]}, tuple(part for _, part in spans))
    claims = [(claim, proof), (LipschitzClaim(conclude(Goal(network), other)), other)]
    yield case("lipschitz, residual", file, {"kind": "network"}, claims, judge)


def normalised(seed: int = 8) -> Network:
    """Residual layers by their condition, one with two weights of its own; a convolution with normalised channels; a matrix."""
    rng = np.random.default_rng(seed)
    b = Builder((6,))
    up = Dense(rng.normal(size=(4, 6)) / 2, 0.3 * rng.normal(size=4))
    step = Diagonal(1.9 / abs(up.W @ up.W.T).sum(1))
    bent = b.add(step, b.add(Activation("relu", 4), b.add(up, 0)))
    block = b.add(Sum((1, -1), 6), 0, b.add(Transposed(Dense(up.W)), bent))
    down = Dense((up.W.T * step.d).astype(np.float32).astype(np.float64))
    block = b.add(Sum((1, -1), 6), block, b.add(down, b.add(Activation("relu", 4), b.add(up, block))))
    conv = b.add(Convolution(rng.normal(size=(2, 1, 3)) / 2, (6,), (2,), ((1, 1),), (1,)), block)
    scale, shift = rng.normal(size=2), rng.normal(size=2)
    scaled = b.add(Diagonal(np.repeat(scale, 3), np.repeat(shift, 3)), conv)
    last = Dense(rng.normal(size=(2, 6)) / 2)
    return b.finish(b.add(last, b.add(Activation("tanh", 6), scaled)))


def onnx_file(folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Convolution of stride 2, relu, a residual block, a matrix."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng, size = np.random.default_rng(4), 6
    arrays = {
        "K": rng.normal(size=(2, 1, 3)) / 2, "b": 0.2 * rng.normal(size=2), "W": rng.normal(size=(4, 6)) / 2,
        "U": rng.normal(size=(6, 4)) / 2, "V": rng.normal(size=(3, 6)),
    }  # fmt: skip
    arrays = {name: A.astype(np.float32) for name, A in arrays.items()}
    nodes = [
        helper.make_node("Conv", ["x", "K", "b"], ["c"], name="conv", strides=[2], pads=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["first"]),
        helper.make_node("Gemm", ["first", "W"], ["w"], transB=1, name="gemm"),
        helper.make_node("Relu", ["w"], ["wr"]),
        helper.make_node("Gemm", ["wr", "U"], ["u"], transB=1),
        helper.make_node("Add", ["first", "u"], ["block"]),
        helper.make_node("Gemm", ["block", "V"], ["y"], transB=1),
    ]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "block", "first")]
    for value in made:
        value.type.tensor_type.ClearField("shape")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, size])
    constants = [numpy_helper.from_array(A, name) for name, A in arrays.items()]
    model = helper.make_graph(nodes, "g", [x], made, constants)
    path = folder / "net.onnx"
    onnx.save(helper.make_model(model, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path, arrays


def _onnx(folder: Path) -> Iterator[Case]:
    """An ONNX graph as a network, and its kernel as a layer."""
    file, arrays = onnx_file(folder)
    functions = small_onnx(arrays, 6)

    def world(reading: Mapping[str, Any]) -> World | None:
        outputs, inputs = reading.get("outputs"), reading.get("inputs")
        if set(reading) - {"kind", "outputs", "inputs"} or inputs not in (None, "", "x"):
            return None
        f = functions.get(outputs or "y")
        return None if f is None else World((f,), 6, frozenset())

    def layer(name: str, transpose: bool) -> np.ndarray | None:
        return arrays.get(name) if name != "b" and not transpose else None

    geometry = {"stride": 2, "padding": 1, "padding_mode": "zeros", "dilation": 1, "groups": 1}
    judge = Judge(world, layer, lambda name: geometry if name == "K" else None)
    for outputs in ("y", "block"):
        reading = {"kind": "onnx", "outputs": outputs}
        understood = read_file(file, reading)
        claims = [_claimed(understood.network, method) for method in ("product", "riccati")]
        claims.append(_claimed(understood.network, "product", region=Ball(np.full(6, 0.5), 0.2)))
        yield case("lipschitz, onnx", file, dict(understood.reading), claims, judge)
    from sdplip.weights.read import read

    entries = []
    for weight in read(file):
        t = np.full(weight.array.shape[1], 2.0)
        found = (
            certify(np.asarray(weight.array, np.float64), t)
            if weight.array.ndim == 2
            else certify_convolution(np.asarray(weight.array, np.float64), t, weight.geometry)
        )
        entries.append((condition_claim(weight.name, found), condition_proof(found)))
    yield case("condition, onnx", file, {"kind": "layers"}, entries, judge)


def _conditions(folder: Path) -> Iterator[Case]:
    """Matrices and kernels in both forms, of every kind of witness."""
    rng = np.random.default_rng(5)
    arrays = {
        "a.weight": rng.normal(size=(3, 2)),
        "b.weight": rng.normal(size=(2, 4)),
        "c.weight": rng.normal(size=(3, 3)),
    }
    file, judge = _saved(folder, "layers.npz", arrays)
    entries = []
    for name, W in arrays.items():
        for form in ("linear", "residual"):
            n = W.shape[1] if form == "linear" else len(W)
            M = W if form == "linear" else W.T.copy()
            found = certify(M, rng.uniform(0.5, 3.0, n), form=form)  # type: ignore[arg-type]
            entries.append((condition_claim(name, found), condition_proof(found)))
    yield case("condition, dense", file, {"kind": "layers"}, entries, judge)
    kernels = {
        "line": rng.normal(size=(2, 2, 3)),
        "plane": rng.normal(size=(2, 1, 2, 2)),
        "groups": rng.normal(size=(4, 1, 3)),
    }
    kernels = {f"{name}.weight": K for name, K in kernels.items()}
    file, judge = _saved(folder, "kernels.npz", kernels)
    geometries = [
        ("wave", "line.weight", Geometry(padding_mode="circular", image_size=(6,))),
        ("every size", "line.weight", Geometry()),
        ("every size", "plane.weight", Geometry(stride=2)),
        ("image", "line.weight", Geometry(padding=1, stride=2, image_size=(7,))),
        ("image", "plane.weight", Geometry(padding=0, image_size=(4, 5))),
        ("image", "line.weight", Geometry(padding_mode="circular", padding=0, image_size=(6,))),
        ("wave", "groups.weight", Geometry(padding_mode="circular", groups=2, image_size=(4,))),
        ("image", "groups.weight", Geometry(dilation=2, groups=4, image_size=(5,))),
    ]
    for kind, name, geometry in geometries:
        K, entries = kernels[name], []
        for form in ("linear", "residual"):
            n = K.shape[1] * geometry.groups if form == "linear" else len(K)
            found = certify_convolution(K, rng.uniform(0.5, 3.0, n), geometry, form=form)  # type: ignore[arg-type]
            entries.append((condition_claim(name, found), condition_proof(found)))
        yield case(f"condition, {kind}", file, {"kind": "layers"}, entries, judge)


def _accuracies(folder: Path) -> Iterator[Case]:
    """Classes and radii of a few images, of exact passes and of computed ones, with larger balls and without."""
    rng = np.random.default_rng(6)
    arrays = {k: v.astype(np.float32).astype(np.float64) for k, v in _layers(rng, 3, 5, 4, 3).items()}
    for store, dtype in (("points", np.float64), ("bytes", np.uint8)):
        file, judge = _saved(folder, f"classes_{store}.npz", arrays)
        network = read_file(file).network
        x = (
            rng.uniform(size=(6, 3))
            if dtype == np.float64
            else rng.integers(0, 256, size=(6, 3)).astype(np.uint8)
        )
        y = network(x if dtype == np.float64 else x / 255).argmax(-1)
        y[0] = (y[0] + 1) % 3
        images = folder / f"{store}.npz"
        np.savez(images, images=x, labels=y)
        judge.images, judge.labels = x, y
        for arithmetic in ("exact", "float64", "float32"):
            method = "product" if arithmetic == "float32" else "lipsdp-neuron"
            found = certify_graph(network, x, y, arithmetic=arithmetic, method=method, seconds=1)
            if store == "points":
                entries = [(found.claim, found.proof)]
                yield case("accuracy, margins", file, {"kind": "weights"}, entries, judge, images)
                continue
            with suppress(NotProvable):
                found = enlarge(network, x, found)
            kind = "accuracy, around" if found.proof.rule == "around" else "accuracy, margins"
            yield case(kind, file, {"kind": "weights"}, [(found.claim, found.proof)], judge, images)
        pairs = [(i, j) for i in range(3) for j in range(i + 1, 3)]
        proof = Proof("pairs", {}, tuple(_claimed(network, "riccati", output=p)[1] for p in pairs))
        found = certify_graph(network, x, y, arithmetic="exact", proof=proof)
        yield case("accuracy, pairs", file, {"kind": "weights"}, [(found.claim, found.proof)], judge, images)


def segmenters() -> dict[str, Network]:
    """Networks with an answer at each of nine pixels: a matrix a pixel at the end, none, one logit."""
    rng, size, moves = np.random.default_rng(7), (3, 3), ((1, 1), ((1, 1), (1, 1)), (1, 1))
    found = {}
    for kind, features in (("head", 2), ("whole", 2), ("sign", 1)):
        b = Builder((1, *size))
        first = b.add(
            Convolution(rng.normal(size=(features, 1, 3, 3)) / 2, size, *moves), 0, shape=(features, *size)
        )
        z = b.add(
            Activation("relu" if features > 1 else "tanh", 9 * features), first, shape=(features, *size)
        )
        if kind == "head":
            z = b.add(OnAxis(rng.normal(size=(3, 2)), 1, 9, 0.1 * rng.normal(size=27)), z, shape=(3, *size))
        found[kind] = b.finish(z)
    return found


def _pixels(folder: Path) -> Iterator[Case]:
    """Right pixels that changes of two lengths leave."""
    rng = np.random.default_rng(8)
    for kind, network in segmenters().items():
        file, images = folder / f"pixels_{kind}.safetensors", folder / f"pixels_{kind}.npz"
        write_network(file, network)
        x = (
            rng.integers(0, 256, size=(3, 1, 3, 3)).astype(np.uint8)
            if kind == "whole"
            else rng.normal(size=(3, 1, 3, 3))
        )
        s = network((x / 255 if kind == "whole" else x).reshape(3, -1)).reshape(3, -1, 3, 3)
        masks = s.argmax(1) if s.shape[1] > 1 else (s[:, 0] > 0).astype(np.int64)
        masks[:, 0, 0], masks[1, 2, 2] = -1, 1 - min(int(masks[1, 2, 2]), 1)
        np.savez(images, images=x, masks=masks)
        judge = Judge(
            lambda reading, file=file: network_file(file) if reading == {"kind": "network"} else None
        )
        judge.images, judge.masks = x, masks
        found = certify_dense_graph(network, x, masks, (0.05, 0.3), ignore=-1)
        entries = [(claim, found.proof) for claim in found.claims]
        yield case(f"pixels, {kind}", file, {"kind": "network"}, entries, judge, images)

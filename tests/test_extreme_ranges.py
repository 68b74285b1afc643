"""Every rule on numbers near the ends of the range: what is concluded from them is so in rational arithmetic, denormals as zero or not.

Layers are multiplied by powers of two, which changes nothing in exact arithmetic as long as nothing underflows: an honest proof is
rescaled with them, and tried with closing numbers (kappa, c) a little below and above the one that proves. Rules of regions are tried with
such numbers in `test_local_rules.py` and `test_centred.py`, implicit layers in `test_equilibrium.py`.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdplip.errors import NotProvable, SdplipError
from sdplip.kernel.check import conclude
from sdplip.kernel.condition.known import forget
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.rules import RULES
from sdplip.network import Activation, Dense, Diagonal, Network, Transposed, chain
from sdplip.network.file import write_network
from sdplip.network.read.file import read_file
from sdplip.verifier.document import _to_proof
from sdplip.verifier.images import read_images
from tests.flush import denormals
from tests.forge import honest
from tests.forge.mutants import get, is_number, paths, put
from tests.independent import networks
from tests.independent.replay import conclude as replay

pytestmark = pytest.mark.usefixtures("one_thread")
OF_REGIONS = {"local", "cut", "secants"}
SCALES: dict[str, tuple[int, ...]] = {
    "plain": (0, 0, 0), "up": (250, 250, 0), "up and down": (500, -500, 0), "down and up": (-500, 500, 0), "far down": (-400, -400, -300),
    "to the edge": (-511, -511, 0), "beyond": (-600, -600, 0), "subnormal": (-1060, 530, 500), "subnormal last": (0, 500, -1050),
    "far up": (480, 20, 10), "over": (600, 600, 0),
}  # fmt: skip
"""Exponents of the layers, first layer first."""
CLOSING = (0.5, 1 - 1e-3, 1 - 1e-9, 1.0, 1 + 1e-9, 1 + 1e-3, 4.0)
Json = dict[str, Any]


@pytest.fixture(scope="module")
def chains(tmp_path_factory) -> dict[str, list[tuple[Path, Json, Json, str]]]:
    """Of each rule the files, readings, proofs and norms of honest claims about bare weights for all inputs."""
    folder, found = tmp_path_factory.mktemp("honest"), dict[str, list]()
    for case in (*honest._chains(folder), *honest._wide(folder), *small_images(folder)):
        reading = case.document["file"]["reading"]
        for entry in case.document["claims"]:
            claim = entry["claim"]
            slopes = reading.get("slopes") or reading.get("activation", "relu") not in (
                "relu",
                "abs",
                "leaky_relu:0.2",
                "maxmin",
            )
            if (
                claim["region"] is None
                and not claim["output"]
                and not reading.get("transpose")
                and (not slopes or reading.get("slopes"))
            ):
                for rule in honest.rules_of(entry["proof"]):
                    found.setdefault(rule, []).append((case.file, reading, entry["proof"], claim["norm"]))
    return found


def small_images(folder: Path) -> Iterator[honest.Case]:
    """Kernels in a row on four pixels, so that rational arithmetic is quick."""
    rng = np.random.default_rng(2)
    arrays = {
        "conv1.weight": rng.normal(size=(2, 1, 3)) / 2, "conv2.weight": rng.normal(size=(1, 2, 3)) / 2,
        "fc.weight": rng.normal(size=(2, 4)),
    }  # fmt: skip
    file, judge = honest._saved(folder, "small.npz", arrays)
    for method, moves in (("frequency", {"padding_mode": "circular"}), ("banded", {"padding": 1})):
        for layers in (["conv1.weight", "conv2.weight"], []):
            reading = {"kind": "weights", "image_size": 4, "geometry": {"": moves}, "layers": layers}
            claims = [honest._claimed(read_file(file, reading).network, method)]
            yield honest.case(method, file, reading, claims, judge)


def scaled_arrays(
    file: Path, reading: Json, exponents: tuple[int, ...]
) -> tuple[dict[str, np.ndarray], list[int]]:
    """The arrays with layer k times a power of two, and biases with all layers so far; the exponents of the layers that are used."""
    if file.suffix == ".mat":
        from scipy.io import loadmat

        arrays = {name: A for name, A in loadmat(file).items() if not name.startswith("_")}
    else:
        arrays = dict(np.load(file))
    names = reading.get("layers") or [
        name for name in arrays if name.endswith("weight") or name.startswith("W")
    ]
    total, used = 0, list[int]()
    for k, name in enumerate(names):
        e = exponents[k % len(exponents)]
        used.append(e)
        total += e
        with np.errstate(under="ignore", over="ignore"):
            arrays[name] = np.ldexp(np.asarray(arrays[name], np.float64), e)
            bias = name.replace("weight", "bias").replace("W", "b")
            if bias in arrays:
                arrays[bias] = np.zeros_like(arrays[bias], dtype=np.float64)
    return arrays, used


def power(value: float, e: int) -> float:
    """Times a power of two, within the range of doubles."""
    with np.errstate(all="ignore"):
        return float(np.clip(np.ldexp(value, e), -1.7e308, 1.7e308))


def rescaled(proof: Json, nodes: int, e: list[int]) -> Json:
    """The proof of the network whose layers were multiplied by powers of two; layer k makes value 2 k + 1."""
    proof = json.loads(json.dumps(proof))
    _rescale(proof, 0, nodes, e)
    return proof


def _rescale(proof: Json, start: int, end: int, e: list[int]) -> None:
    """A proof of the part between two values."""
    data, parts = proof.get("data", {}), proof.get("parts", [])
    first, last = (start + 1) // 2, (end + 1) // 2  # the layers inside
    inside, rule = e[first:last], proof["rule"]
    if rule == "layers":
        for (a, b), part in zip(data.get("spans", []), parts, strict=True):
            _rescale(part, start + a, start + b, e)
    elif rule in ("rows", "narrow"):
        parts = list(parts)
        if data.get("behind"):
            _rescale(parts.pop(0), start, start + data["behind"], e)
        for part in parts:
            _rescale(part, start, end, e)
    elif rule == "norm":
        data["c"] = power(data["c"], sum(inside))
    elif rule in ("joint", "chain", "pairwise"):
        data["kappa"] = power(data["kappa"], 2 * sum(inside))
        neurons = data["multipliers"]
        if rule == "chain":
            for k, lam in enumerate(neurons):
                neurons[k] = [power(v, -2 * sum(inside[: k + 1])) for v in lam]
        else:
            count = len(neurons) // max(1, len(inside) - 1)
            data["multipliers"] = [
                power(v, 2 * sum(inside[1 + min(i // max(1, count), len(inside) - 2) :]))
                for i, v in enumerate(neurons)
            ]
            if rule == "pairwise":
                _rescale_pairs(data, inside, max(1, count))
    elif rule == "composite":
        places = [(i, j) for i in range(len(inside)) for j in range(i, len(inside))]
        data["norms"] = [
            power(v, sum(inside[i : j + 1])) for v, (i, j) in zip(data["norms"], places, strict=True)
        ]
    elif rule in ("frequency", "banded"):
        stop = data.get("head", data.get("end", end))
        whole = sum(e[first : (stop + 1) // 2])
        if rule == "banded":
            for k, lam in enumerate(data["multipliers"]):
                data["multipliers"][k] = [power(v, -2 * sum(inside[: k + 1])) for v in lam]
        if "c" in data:
            data["c"] = power(data["c"], whole)
        else:
            data["R"] = [[power(v, whole) for v in row] for row in data["R"]]
            for part in parts:
                _rescale(
                    part, 2 * len(e), 2 * len(e), []
                )  # what begins with R is left as it is where it is linear in it
                _times(part, whole)


def _rescale_pairs(data: Json, inside: list[int], count: int) -> None:
    """Each entry of a form by the exponents behind its two neurons."""

    def behind(k: int) -> int:
        return sum(inside[1 + min(k // count, len(inside) - 2) :])

    for at, (i, j) in enumerate(zip(data["first"], data["second"], strict=True)):
        e = [behind(i), behind(i), behind(j), behind(j)]
        upper = [e[a] + e[b] for a in range(4) for b in range(a, 4)]
        above = [e[a] + e[b] for a in range(4) for b in range(a + 1, 4)]
        data["forms"][at] = [power(v, s) for v, s in zip(data["forms"][at], upper, strict=True)]
        data["rests"][at] = [
            [power(v, s) for v, s in zip(rest, above, strict=True)] for rest in data["rests"][at]
        ]


def _times(proof: Json, e: int) -> None:
    """What stands behind R: norms of its spans from the first on."""
    for (a, _), part in zip(proof.get("data", {}).get("spans", []), proof.get("parts", []), strict=False):
        if a == 0 and "c" in part.get("data", {}):
            part["data"]["c"] = power(part["data"]["c"], e)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "rule", sorted(set(RULES) - OF_REGIONS - {"residual", "rounded", "folded", "equilibrium", "patterns"})
)
def test_rules_of_all_inputs(rule, scale, chains, tmp_path):
    accepted = 0
    for number, (file, reading, proof, norm) in enumerate(chains[rule][:3]):
        arrays, e = scaled_arrays(file, reading, SCALES[scale])
        path = tmp_path / f"{number}.npz"
        np.savez(path, **arrays)
        try:
            network = read_file(path, reading).network
        except SdplipError:
            continue  # infinite
        nodes = networks.of_arrays(arrays, reading)
        accepted += tried(network, nodes, rescaled(proof, len(nodes), e), norm)
    if scale == "plain":
        assert accepted, "a test in which nothing is proven shows nothing"


def tried(network: Network, nodes: networks.Nodes, proof: Json, norm: str = "l2") -> int:
    """How many closing numbers the kernel accepted: each is enough in rational arithmetic."""
    closing = [(at, v) for at, v in paths(proof) if closes(at) and is_number(v)]
    count = 0
    for factor in CLOSING:
        changed, second = json.loads(json.dumps(proof)), None
        for at, v in closing:
            put(changed, at, min(v * factor, 1.7e308))
        for flush in (False, True):
            try:
                forget()
                with denormals(flush):
                    bound = conclude(Goal(network, None, norm), _to_proof(changed))  # type: ignore[arg-type]
            except SdplipError:
                continue
            count += 1
            second = replay(nodes, changed, None, norm) if second is None else second
            assert second <= Fraction(bound) * (1 + Fraction(1, 10**9)), (
                factor,
                flush,
                float(second),
                bound,
                changed,
            )
    return count


def closes(at: tuple) -> bool:
    return at[-1] in ("kappa", "c") or (len(at) > 1 and at[-2] == "norms") or "R" in at


@pytest.mark.parametrize("exponent", [0, 200, -200, 400, -400, -511, 511, -530])
def test_residual_layers(exponent, tmp_path):
    """The way up times a power of two, the step divided by its square: the same layer."""
    count = 0
    for case in honest._graphs(tmp_path):
        if case.kind != "lipschitz, residual":
            continue
        try:
            network = scaled_residual(exponent)
        except SdplipError:
            continue  # infinite
        path = tmp_path / "scaled.safetensors"
        write_network(path, network)
        nodes = networks.of_file(path)
        for entry in case.document["claims"]:
            proof = entry["proof"]
            for at, _ in [(at, v) for at, v in paths(proof) if at[-1] == "step"]:
                put(proof, at, [power(v, -2 * exponent) for v in get(proof, at)])
            count += tried(network, nodes, proof)
    assert count or abs(exponent) > 400


def scaled_residual(exponent: int) -> Network:
    """`honest.normalised` with other units of its hidden neurons."""
    found, network = [], honest.normalised()
    with np.errstate(all="ignore"):
        for node in network.nodes:
            op = node.op
            if isinstance(op, Dense) and op.W.shape == (4, 6):
                op = Dense(np.ldexp(op.W, exponent))
            elif isinstance(op, Dense) and op.W.shape == (6, 4):
                op = Dense(np.ldexp(op.W, -exponent))
            elif isinstance(op, Transposed):
                op = Transposed(Dense(np.ldexp(op.of.dense(), exponent)))
            elif isinstance(op, Diagonal) and op.inputs == 4:
                op = Diagonal(np.ldexp(op.d, -2 * exponent))
            found.append(replace(node, op=op))
    return Network(network.input_shape, tuple(found))


SMALL = 2.0**-1050


@pytest.mark.parametrize(
    "last",
    [
        Diagonal(np.array([0.0, SMALL])),
        Activation("", 2, {}, np.zeros(2), np.array([0.0, SMALL])),
        Activation("leaky_relu", 2, {"negative_slope": SMALL}),
        Dense(np.array([[0.0, SMALL]])),
        Transposed(Dense(np.array([[0.0], [SMALL]]))),
    ],
    ids=lambda op: type(op).__name__,
)
def test_numbers_that_count_as_zero_are_not_lost(last):
    """Behind 2^500 such a number makes 2^-550; where it is read as zero nothing is proven."""
    network = chain([Dense(np.array([[0.0], [2.0**500]])), last])
    parts = [Proof("norm", {"c": 2.0**500 * (1 + 1e-9)})]
    spans = [[0, 1]]
    if not isinstance(last, Diagonal | Activation):
        spans, parts = [*spans, [1, 2]], [*parts, Proof("norm", {"c": 1e-300})]
    proof = Proof("layers", {"spans": spans}, tuple(parts))
    assert conclude(Goal(network), proof) >= 2.0**-550
    with denormals(True), pytest.raises(NotProvable, match="subnormal"):
        conclude(Goal(network), proof)


def test_subnormal_singles_are_read_as_they_are(tmp_path):
    """Doubles hold them as ordinary numbers, whatever the processor does with them."""
    single, exact = np.array([[1e-40, 1.0]], np.float32), float(np.float32(1e-40))
    images = tmp_path / "images.npz"
    np.savez(images, images=single)
    with denormals(True):
        found = [
            Dense(single).W,
            Dense(np.eye(2), single[0]).shift(),
            read_images(images).entering(np.arange(1), "float32"),
        ]
    assert all(float(x.reshape(-1)[0]) == exact > 0 for x in found)

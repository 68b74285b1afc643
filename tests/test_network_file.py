"""Networks as files: what is written is read back bit for bit, and damaged files get a sentence."""

import json

import numpy as np
import pytest

from sdplip.errors import SdplipError
from sdplip.network import (
    Activation,
    Average,
    Builder,
    Concatenate,
    Convolution,
    Dense,
    Diagonal,
    Gather,
    Maximum,
    Norms,
    OnAxis,
    Scatter,
    Sort,
    Sum,
    Transposed,
    pooling_windows,
)
from sdplip.network.file import holds_network, read_network, write_network
from sdplip.network.graph import Network


def everything() -> Network:
    rng = np.random.default_rng(0)
    b = Builder((2, 4, 4))
    K = Convolution(
        rng.normal(size=(2, 2, 3, 3)), (4, 4), (1, 1), ((1, 1), (1, 1)), (1, 1), b=rng.normal(size=32)
    )
    a = b.add(K, 0, shape=(2, 4, 4), name="conv1")
    a = b.add(Activation("relu", 32), a, shape=(2, 4, 4))
    down = b.add(Transposed(K), a, shape=(2, 4, 4))
    a = b.add(Sum((1, -1), 32), 0, down, shape=(2, 4, 4))
    a = b.add(Maximum(pooling_windows(2, (4, 4), (2, 2), (2, 2), ((0, 0), (0, 0))), 32), a, shape=(2, 2, 2))
    w = pooling_windows(2, (2, 2), (2, 1), (1, 1), ((0, 0), (0, 0)))
    c = b.add(Average(w, np.full(len(w), 2.0), 8), a)
    d = b.add(Gather(np.array([3, 1, -1, 0]), 4), c)
    e = b.add(Concatenate((4, 4)), c, d)
    e = b.add(Diagonal(rng.normal(size=8), rng.normal(size=8), 1e-15), e)
    e = b.add(Sort(np.arange(8).reshape(4, 2), 8), e)
    e = b.add(OnAxis(rng.normal(size=(3, 2)).astype(np.float32), 2, 2), e)
    e = b.add(Norms(np.arange(12).reshape(6, 2), 12), e)
    e = b.add(Scatter(np.array([0, 0, 1, 2, 1, -1]), 3), e)
    return b.finish(b.add(Dense(rng.normal(size=(2, 3)), np.ones(2)), e, name="fc"))


def test_round_trip(tmp_path):
    network = everything()
    write_network(tmp_path / "n.safetensors", network)
    again = read_network(tmp_path / "n.safetensors")
    x = np.random.default_rng(1).normal(size=(5, 32))
    assert (again(x) == network(x)).all()
    assert [n.name for n in again.nodes] == [n.name for n in network.nodes]
    assert again.nodes[2].op.of is again.nodes[0].op  # type: ignore[union-attr]  # one operator stays one
    assert holds_network(tmp_path / "n.safetensors")


def test_other_tools_read_the_tensors(tmp_path):
    load_file = pytest.importorskip("safetensors.numpy").load_file
    network = everything()
    write_network(tmp_path / "n.safetensors", network)
    assert (load_file(tmp_path / "n.safetensors")["fc.weight"] == network.nodes[-1].op.W).all()  # type: ignore[union-attr]


def test_damage_gets_a_sentence(tmp_path):
    path = tmp_path / "n.safetensors"
    write_network(path, everything())
    whole, rng = path.read_bytes(), np.random.default_rng(2)
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    refused = 0
    for trial in range(400):
        if trial % 2:
            broken = bytearray(whole)
            for at in rng.integers(0, 8 + length, 3):
                broken[at] = rng.integers(256)
            broken = bytes(broken[: rng.integers(1, len(whole))] if trial % 3 == 0 else broken)
        else:
            graph = json.loads(header["__metadata__"]["sdplip.network"])
            node = graph["nodes"][rng.integers(len(graph["nodes"]))]
            node[rng.choice(["inputs", "shape", "op"])] = [
                [],
                [7],
                {},
                "x",
                None,
                [[1]],
                {"kind": "Dense"},
                -1,
            ][rng.integers(8)]
            text = json.dumps({**header, "__metadata__": {"sdplip.network": json.dumps(graph)}}).encode()
            broken = len(text).to_bytes(8, "little") + text + whole[8 + length :]
        path.write_bytes(broken)
        try:
            read_network(path)
        except SdplipError:
            refused += 1
    assert refused > 200

"""Whole models of Keras in .h5 files: the configuration says the network, and what is not a chain of known layers is refused."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdplip.errors import InvalidWeight, SdplipError
from sdplip.network.read.file import read_file
from sdplip.network.read.weights import Assumptions, read_weights_network
from sdplip.weights import read

h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(0)


def layer(kind: str, name: str = "x", **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, **config}}


def saved(
    path: Path, layers: list[dict[str, Any]], arrays: dict[str, np.ndarray], kind: str = "Sequential"
) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(
            {"class_name": kind, "config": {"name": "m", "layers": layers}}
        )
        for name, array in arrays.items():
            group, leaf = name.split("/")
            file.create_dataset(f"model_weights/{group}/m/{group}/{leaf}:0", data=array)
    return path


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


CNN = [
    layer("InputLayer", batch_shape=[None, 9, 8, 2]),
    layer("Conv2D", "a", strides=[2, 1], padding="valid", dilation_rate=[1, 1], activation="relu"),
    layer("MaxPooling2D", pool_size=[2, 2], strides=[2, 2], padding="valid"),
    layer("Dropout"),
    layer("Conv2D", "b", padding="same", activation="linear"),
    layer("LeakyReLU", negative_slope=0.25),
    layer("Flatten", data_format="channels_last"),
    layer("Dense", "c", activation="tanh"),
    layer("Dense", "d", activation="softmax"),
]
ARRAYS = {
    "a/kernel": normal(3, 3, 2, 4), "a/bias": normal(4), "b/kernel": normal(3, 3, 4, 3), "b/bias": normal(3),
    "c/kernel": normal(2 * 3 * 3, 5), "c/bias": normal(5), "d/kernel": normal(5, 3), "d/bias": normal(3),
}  # fmt: skip


def by_torch(x: np.ndarray) -> np.ndarray:
    t = {name: torch.tensor(array) for name, array in ARRAYS.items()}
    f = torch.nn.functional
    y = torch.tensor(x)
    y = f.max_pool2d(
        torch.relu(f.conv2d(y, t["a/kernel"].permute(3, 2, 0, 1), t["a/bias"], stride=(2, 1))), 2
    )
    y = f.leaky_relu(f.conv2d(y, t["b/kernel"].permute(3, 2, 0, 1), t["b/bias"], padding=1), 0.25)
    y = torch.tanh(y.permute(0, 2, 3, 1).reshape(len(x), -1) @ t["c/kernel"] + t["c/bias"])
    return torch.softmax(y @ t["d/kernel"] + t["d/bias"], -1).numpy()


def test_the_configuration_says_the_network(tmp_path):
    found = read_weights_network(saved(tmp_path / "m.h5", CNN, ARRAYS), biases=True)
    x = normal(4, 2, 9, 8)
    np.testing.assert_allclose(found.network(x.reshape(4, -1)), by_torch(x), atol=1e-12)
    assert any("relu, leaky_relu:0.25, tanh, softmax" in sentence for sentence in found.sentences)
    assert found.reading == {} and found.left_out == ()
    with pytest.raises(InvalidWeight, match="says itself"):
        read_weights_network(tmp_path / "m.h5", Assumptions(activation="relu"))


def test_matrices_alone(tmp_path):
    layers = [
        layer("Dense", "b", batch_input_shape=[None, 3], activation="relu"),
        layer("Dense", "a", activation=None),
    ]
    W1, W2 = normal(3, 4), normal(4, 2)
    found = read_weights_network(saved(tmp_path / "m.h5", layers, {"a/kernel": W2, "b/kernel": W1}))
    x = normal(5, 3)
    np.testing.assert_allclose(found.network(x), np.maximum(x @ W1, 0) @ W2, atol=1e-12)


def test_lengths_and_means(tmp_path):
    K, W = normal(3, 2, 4), normal(4, 3)
    layers = [
        layer("InputLayer", batch_shape=[None, 7, 2]), layer("Conv1D", "k", padding="same", activation="relu"),
        layer("GlobalAveragePooling1D"), layer("Dense", "w"),
    ]  # fmt: skip
    found = read_weights_network(saved(tmp_path / "m.h5", layers, {"k/kernel": K, "w/kernel": W}))
    x = normal(5, 2, 7)
    y = torch.relu(
        torch.nn.functional.conv1d(torch.tensor(x), torch.tensor(K.transpose(2, 1, 0).copy()), padding=1)
    )
    np.testing.assert_allclose(found.network(x.reshape(5, -1)), y.mean(-1).numpy() @ W, atol=1e-12)
    layers[2:] = [layer("Flatten"), layer("Dense", "w")]
    W = normal(28, 3)
    found = read_weights_network(saved(tmp_path / "n.h5", layers, {"k/kernel": K, "w/kernel": W}))
    expected = y.permute(0, 2, 1).reshape(5, -1).numpy() @ W
    np.testing.assert_allclose(found.network(x.reshape(5, -1)), expected, atol=1e-12)


def changed(place: int, **config: Any) -> list[dict[str, Any]]:
    entry = CNN[place]
    return [*CNN[:place], {**entry, "config": {**entry["config"], **config}}, *CNN[place + 1 :]]


REFUSED = {
    "TensorFlow's same with strides": changed(1, padding="same"),
    "causal": changed(4, padding="causal"),
    "channels first": changed(4, data_format="channels_first"),
    "overlapping pools": changed(2, pool_size=[3, 3]),
    "padded pools": changed(2, padding="same"),
    "hard sigmoid": changed(7, activation="hard_sigmoid"),
    "a function of its own": changed(7, activation={"class_name": "f"}),
    "ReLU of its own": [*CNN[:5], layer("ReLU", threshold=1.0), *CNN[6:]],
    "two functions": [*CNN[:5], layer("ReLU"), *CNN[5:]],
    "normalisation": [*CNN[:4], layer("BatchNormalization"), *CNN[4:]],
    "recurrent": [*CNN, layer("LSTM")],
    "without Flatten": [*CNN[:6], *CNN[7:]],
    "free images": changed(0, batch_shape=[None, None, 8, 2]),
    "free axes": changed(0, batch_shape=None),
    "strange numbers": changed(1, strides=["2", 1]),
    "no table": [*CNN, 3],
    "no configuration": [*CNN, {"class_name": "Dense"}],
    "gigantic": changed(1, dilation_rate=2**40),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_chain_of_known_layers_is_refused(tmp_path, case):
    with pytest.raises(SdplipError) as caught:
        read_weights_network(saved(tmp_path / "m.h5", REFUSED[case], ARRAYS))
    assert "\n" not in str(caught.value)


def test_other_classes_are_refused(tmp_path):
    with pytest.raises(InvalidWeight, match="Subclassed"):
        read_weights_network(saved(tmp_path / "m.h5", CNN, ARRAYS, "Subclassed"))


# --- functional models ---


def taking(entry: dict[str, Any], *before: str, version: int = 3) -> dict[str, Any]:
    """A layer of a functional model, as Keras 2 or 3 writes what it takes."""
    name = entry["config"]["name"]
    if version == 2:
        nodes = [[[other, 0, 0, {}] for other in before]] if before else []
    else:
        tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [b, 0, 0]}} for b in before]
        nodes = [{"args": tensors if len(before) < 2 else [tensors], "kwargs": {}}] if before else []
    return {**entry, "name": name, "inbound_nodes": nodes}


def functional(version: int = 3) -> list[dict[str, Any]]:
    """The layers of `CNN`, called by their place, in the order of the alphabet: not that in which they act."""
    named = [
        entry
        if entry["config"]["name"] != "x"
        else layer(entry["class_name"], **{**entry["config"], "name": f"x{k}"})
        for k, entry in enumerate(CNN)
    ]
    names = [entry["config"]["name"] for entry in named]
    found = [taking(entry, *names[max(0, k - 1) : k], version=version) for k, entry in enumerate(named)]
    return sorted(found, key=lambda entry: entry["name"])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", ["Functional", "Model"])
def test_functional_models_that_are_chains(tmp_path, version, kind):
    found = read_weights_network(saved(tmp_path / "m.h5", functional(version), ARRAYS, kind), biases=True)
    x = normal(4, 2, 9, 8)
    np.testing.assert_allclose(found.network(x.reshape(4, -1)), by_torch(x), atol=1e-12)


def dense(name: str, *before: str, version: int = 3) -> dict[str, Any]:
    return taking(layer("Dense", name, activation="relu"), *before, version=version)


ENTRY = taking(layer("InputLayer", "in", batch_shape=[None, 3]))
BRANCHED = {
    "sum": [ENTRY, dense("a", "in"), taking(layer("Add", "s"), "a", "in"), dense("b", "s")],
    "fork": [ENTRY, dense("a", "in"), dense("b", "a"), dense("c", "a")],
    "two inputs": [ENTRY, dense("a", "in"), taking(layer("InputLayer", "in2")), dense("b", "a")],
    "used twice": [ENTRY, {**dense("a", "in"), "inbound_nodes": 2 * dense("a", "in")["inbound_nodes"]}],
    "circle": [ENTRY, dense("a", "b"), dense("b", "a")],
    "same name": [ENTRY, dense("a", "in"), dense("a", "in")],
    "no such layer": [ENTRY, dense("a", "gone")],
    "no nodes": [ENTRY, {**dense("a", "in"), "inbound_nodes": 3}],
    "no entries": [ENTRY, 3],
    "in keywords": [ENTRY, {**dense("a", "in"), "inbound_nodes": [[["in", 0, 0, {"y": ["in", 0, 0]}]]]}],
}


@pytest.mark.parametrize("case", BRANCHED)
def test_functional_models_that_are_no_chains_are_refused(tmp_path, case):
    arrays = {f"{name}/kernel": normal(3, 3) for name in "abc"}
    with pytest.raises(InvalidWeight, match="no chain"):
        read_weights_network(saved(tmp_path / "m.h5", BRANCHED[case], arrays, "Functional"))


# --- normalisations ---


@pytest.mark.parametrize("behind", [False, True])
def test_normalisations_stand_where_the_configuration_says(tmp_path, behind):
    norm = layer("BatchNormalization", "n", axis=[1], epsilon=0.01)
    relu = layer("Activation", "r", activation="relu")
    layers = [
        layer("Dense", "a", batch_input_shape=[None, 3]),
        *((relu, norm) if behind else (norm, relu)),
        layer("Dense", "b"),
    ]
    W1, W2, v = normal(3, 4), normal(4, 2), abs(normal(4)) + 0.1
    arrays = {
        "a/kernel": W1,
        "b/kernel": W2,
        "n/beta": normal(4),
        "n/moving_mean": normal(4),
        "n/moving_variance": v,
    }
    found = read_weights_network(saved(tmp_path / "m.h5", layers, arrays))

    def normalised(y):
        return (y - arrays["n/moving_mean"]) / np.sqrt(v + 0.01) + arrays["n/beta"]

    x = normal(5, 3)
    y = normalised(np.maximum(x @ W1, 0)) if behind else np.maximum(normalised(x @ W1), 0)
    np.testing.assert_allclose(found.network(x), y @ W2, atol=1e-9)
    assert (
        any("epsilon 0.01, as the configuration" in said for said in found.sentences) and not found.left_out
    )
    del arrays["n/moving_variance"]
    with pytest.raises(InvalidWeight, match="statistics"):
        read_weights_network(saved(tmp_path / "n.h5", layers, arrays))


# --- Keras' own format ---


def archived(path: Path, layers: list[dict[str, Any]], arrays: dict[str, np.ndarray], kind: str) -> Path:
    """As Keras 3 writes `.keras`: groups called by the class, the name of the layer beside its variables."""
    content, counts = io.BytesIO(), dict[str, int]()
    with h5py.File(content, "w") as file:
        for entry in layers:
            stem = entry["class_name"].lower()
            counts[stem] = counts.get(stem, -1) + 1
            group = file.create_group(f"layers/{stem}{f'_{counts[stem]}' if counts[stem] else ''}/vars")
            group.attrs["name"] = entry["config"]["name"]
            own = [array for name, array in arrays.items() if name.split("/")[0] == entry["config"]["name"]]
            for k, array in enumerate(own):
                group.create_dataset(str(k), data=array)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps({"class_name": kind, "config": {"layers": layers}}))
        archive.writestr("model.weights.h5", content.getvalue())
    return path


@pytest.mark.parametrize("kind", ["Sequential", "Functional"])
def test_archives_of_keras(tmp_path, kind):
    layers = CNN if kind == "Sequential" else functional()
    path = archived(tmp_path / "m.keras", layers, ARRAYS, kind)
    found = read_weights_network(path, biases=True)
    x = normal(4, 2, 9, 8)
    np.testing.assert_allclose(found.network(x.reshape(4, -1)), by_torch(x), atol=1e-12)
    again = read_file(path, {"kind": "weights", **found.reading}).network
    np.testing.assert_array_equal(again(x.reshape(4, -1)), found.network(x.reshape(4, -1)))
    assert {weight.name for weight in read(path)} == {"a/kernel", "b/kernel", "c/kernel", "d/kernel"}


def test_damaged_archives_leave_no_traceback(tmp_path):
    whole = archived(tmp_path / "m.keras", CNN, ARRAYS, "Sequential").read_bytes()
    for end in (100, len(whole) // 2, len(whole) - 30):
        (tmp_path / "d.keras").write_bytes(whole[:end])
        with pytest.raises(SdplipError):
            read_weights_network(tmp_path / "d.keras")
    with zipfile.ZipFile(tmp_path / "e.keras", "w") as archive:
        archive.writestr("config.json", "{")
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(SdplipError):
        read_weights_network(tmp_path / "e.keras")


def test_weights_of_a_network_with_sums_stop(tmp_path):
    """Files of weights alone have a group of every layer, also of those without arrays."""
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for name in ("dense", "dense_1"):
            file.create_dataset(f"layers/{name}/vars/0", data=normal(3, 3))
        file.create_group("layers/add/vars")
    with pytest.raises(InvalidWeight, match="layers/add"):
        read_weights_network(tmp_path / "m.h5")
    assert (
        read_weights_network(
            tmp_path / "m.h5", Assumptions(layers=("dense/kernel", "dense_1/kernel"))
        ).network.inputs
        == 3
    )

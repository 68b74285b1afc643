"""Whole models of Keras in .h5 files: the configuration says the network, and what is not a chain of known layers is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdplip.errors import InvalidWeight, SdplipError
from sdplip.network.read.weights import Assumptions, read_weights_network

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
    with pytest.raises(InvalidWeight, match="Functional"):
        read_weights_network(saved(tmp_path / "m.h5", CNN, ARRAYS, "Functional"))

"""Files of bare weights as networks: the function of torch, assumptions in words, and files of other networks are refused."""

import collections
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from scipy.io import savemat
from torch import nn

from sdplip.errors import InvalidCertificate, InvalidWeight, SdplipError, UnknownLayer, UnreadableFile
from sdplip.network import Activation, Sort
from sdplip.network.read.file import read_file
from sdplip.network.read.understood import Understood
from sdplip.network.read.weights import (
    Assumptions,
    between,
    read_geometry,
    read_weights_network,
    weights_network,
)

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def saved(folder: Path, arrays: dict[str, np.ndarray], suffix: str = ".npz") -> Path:
    path = folder / f"w{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
    elif suffix == ".pt":
        torch.save({name: torch.tensor(array) for name, array in arrays.items()}, path)
    elif suffix == ".safetensors":
        save_file(arrays, path)
    else:
        savemat(path, arrays)
    return path


def values(understood: Understood, x: np.ndarray) -> np.ndarray:
    return understood.network(x.reshape(len(x), -1))


def refused(path: Path, *words: str, assumptions: Assumptions = Assumptions(), **options) -> None:  # noqa: B008
    with pytest.raises(SdplipError) as caught:
        read_weights_network(path, assumptions, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    for word in words:
        assert word in message, message


# --- the function that torch computes ---

CNN = Assumptions(
    image_size=(9, 8), geometry={"": {"padding": 1}, "2": {"stride": (2, 1)}, "2.weight": {"padding": (1, 0)}}
)


def cnn(*last: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3, stride=(2, 1), padding=(1, 0)),
        nn.ReLU(),
        *last,
    ).double()


@pytest.mark.parametrize("suffix", [".pt", ".npz", ".safetensors", ".mat"])
def test_networks_are_those_of_torch(tmp_path, suffix):
    mlp = nn.Sequential(
        nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 3)
    ).double()
    images = cnn(nn.Flatten(), nn.Linear(3 * 5 * 6, 3))
    means = cnn(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    average = Assumptions(image_size=CNN.image_size, geometry=CNN.geometry, average=True)
    for module, shape, said in (
        (mlp, (4,), Assumptions()),
        (images, (2, 9, 8), CNN),
        (means, (2, 9, 8), average),
    ):
        arrays = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
        if suffix == ".mat":
            arrays = {f"net_{name.replace('.', '_')}": array for name, array in arrays.items()}
            geometry = {
                f"net_{k}_weight" if k == "2.weight" else f"net_{k}" if k else k: v
                for k, v in said.geometry.items()
            }
            geometry = {k.replace("net_2.weight_weight", "net_2_weight"): v for k, v in geometry.items()}
            said = Assumptions(image_size=said.image_size, geometry=geometry, average=said.average)
        found = read_weights_network(saved(tmp_path, arrays, suffix), said, biases=True)
        x = normal(5, *shape)
        expected = module(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(values(found, x), expected, atol=1e-12)
        assert not found.left_out
        again = read_weights_network(
            tmp_path / f"w{suffix}", Assumptions.from_json(found.reading), biases=True
        )
        assert np.array_equal(values(again, x), values(found, x)) and again.sentences == found.sentences


def test_pooling_windows_that_overlap(tmp_path):
    module = nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.AvgPool2d((2, 3), 1),
        nn.Flatten(), nn.Linear(3 * 4 * 2, 5), nn.ReLU(), nn.Linear(5, 2),
    ).double()  # fmt: skip
    path = saved(tmp_path, {name: tensor.numpy() for name, tensor in module.state_dict().items()}, ".pt")
    first = {"padding": 2, "max_pool": 3, "pool_stride": 2, "pool_padding": 1}
    second = {"padding": 0, "average_pool": (2, 3), "pool_stride": 1}
    said = Assumptions(image_size=(13, 12), geometry={"0": first, "3": second})
    found = read_weights_network(path, said, biases=True)
    x = normal(4, 1, 13, 12)
    np.testing.assert_allclose(values(found, x), module(torch.tensor(x)).detach().numpy(), atol=1e-12)
    assert "then max pool 3; then pool stride 2; then pool padding 1" in " ".join(found.sentences)
    for wrong in (
        {"pool_stride": 2},
        {"average_pool": 3, "pool_padding": 1},
        {"max_pool": 2, "pool_stride": 0},
        {"max_pool": 2, "pool_padding": 2},
    ):
        refused(path, "ooling", assumptions=Assumptions(image_size=(13, 12), geometry={"0": wrong}))


def test_pooling_is_said_layer_by_layer(tmp_path):
    module = nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.AvgPool2d((2, 3)),
        nn.Flatten(), nn.Linear(3 * 2 * 1, 5), nn.ReLU(), nn.Linear(5, 2),
    ).double()  # fmt: skip
    path = saved(tmp_path, {name: tensor.numpy() for name, tensor in module.state_dict().items()}, ".pt")
    (tmp_path / "g.toml").write_text(
        'image_size = [13, 12]\n[0]\npadding = 2\nmax_pool = 2\n["3.weight"]\npadding = 0\naverage_pool = [2, 3]\n'
    )
    said = read_geometry(tmp_path / "g.toml", Assumptions())
    found = read_weights_network(path, said, biases=True)
    x = normal(4, 1, 13, 12)
    np.testing.assert_allclose(values(found, x), module(torch.tensor(x)).detach().numpy(), atol=1e-12)
    text = " ".join(found.sentences)
    assert "then max pool 2" in text and "padding 0, as was said" in text and "stride 1" in text
    for content, word in (
        ("strid = 2", "strid"),
        ("[0]\nstride = 'x'", "[0]"),
        ("x = [", "no TOML"),
        ("stride = -1", "-1"),
    ):
        (tmp_path / "bad.toml").write_text(content)
        with pytest.raises(UnreadableFile) as caught:
            read_geometry(tmp_path / "bad.toml", Assumptions())
        assert word in str(caught.value)
    refused(
        path, "no kernel `conv1`", assumptions=Assumptions(image_size=13, geometry={"conv1": {"stride": 2}})
    )


@pytest.mark.parametrize("affine", [True, False])
def test_normalisation_of_numbered_chains(tmp_path, affine):
    def trained(*modules: nn.Module) -> nn.Sequential:
        model = nn.Sequential(*modules).double()
        for module in model:
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.copy_(torch.tensor(normal(*module.running_mean.shape)))
                module.running_var.copy_(torch.tensor(normal(*module.running_var.shape) ** 2))
        return model.eval()

    norm = nn.BatchNorm1d(6, affine=affine)
    mlp = trained(
        nn.Linear(4, 6), norm, nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 2)
    )
    images = trained(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3, affine=affine),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(60, 2),
    )
    for model, shape, said in (
        (mlp, (4,), Assumptions()),
        (images, (1, 5, 4), Assumptions(image_size=(5, 4))),
    ):
        torch.save(model.state_dict(), tmp_path / "w.pt")
        found = read_weights_network(tmp_path / "w.pt", said, biases=True)
        x = normal(5, *shape)
        np.testing.assert_allclose(values(found, x), model(torch.tensor(x)).detach().numpy(), atol=1e-10)
        assert any("epsilon 1e-05, which is assumed" in sentence for sentence in found.sentences)
    state = mlp.state_dict()
    torch.save({f"layer{name}": tensor for name, tensor in state.items()}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "normalisation")  # names without an order
    torch.save({name.replace("1.", "9."): tensor for name, tensor in state.items()}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "normalisation")
    torch.save({**state, "1.running_var": -torch.ones(6)}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "negative")


def test_keras_layouts_are_said_by_the_name_kernel(tmp_path):
    K, W, b = normal(3, 3, 1, 4), normal(4 * 6 * 5, 3), normal(3)
    path = saved(tmp_path, {"conv/kernel": K, "dense/kernel": W, "dense/bias": b})
    found = read_weights_network(path, Assumptions(image_size=(6, 5), flatten="hwc"), biases=True)
    x = normal(2, 1, 6, 5)
    y = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(K.transpose(3, 2, 0, 1).copy()), padding=1)
    expected = torch.relu(y).permute(0, 2, 3, 1).reshape(2, -1).numpy() @ W + b
    np.testing.assert_allclose(values(found, x), expected, atol=1e-12)
    assert any("(in, out), as the name `kernel` says" in sentence for sentence in found.sentences)
    square = saved(
        tmp_path, {"a/kernel": np.array([[0.0, 1], [0, 0]]), "b/kernel": np.array([[0.0, 0], [1, 0]])}
    )
    W1, W2 = (node.op.dense() for node in read_weights_network(square).network.nodes[::2])
    assert np.linalg.norm(W2 @ W1, 2) == 1
    turned = read_weights_network(square, Assumptions(transpose=False))
    assert np.array_equal(turned.network.nodes[0].op.dense(), [[0, 1], [0, 0]])


# --- biases by name ---


def test_biases_are_paired_by_name_and_not_by_order(tmp_path):
    eye = np.eye(2)
    arrays = {"fc1.w": eye, "fc2.w": eye, "fc3.w": np.ones((1, 2)), "fc2.bias": np.full(2, -100.0)}
    arrays |= {"fc1.bias": np.full(2, 200.0), "fc3.bias": np.zeros(1)}
    found = read_weights_network(saved(tmp_path, arrays), biases=True)
    assert values(found, np.zeros((1, 2))) == 200.0
    for names in (("W1", "W2", "b_2"), ("weights[0]", "weights[1]", "biases[1]"), ("a_w", "c_w", "c_b")):
        arrays = dict(zip(names, (normal(3, 2), normal(1, 3), normal(1)), strict=True))
        found = read_weights_network(saved(tmp_path, arrays), biases=True)
        assert found.network.nodes[0].op.b is None
        assert np.array_equal(found.network.nodes[2].op.b, arrays[names[2]])
        assert any(f"`{names[0]}` has no bias in the file" in sentence for sentence in found.sentences)


def test_biases_that_belong_to_no_layer_stop_only_where_they_matter(tmp_path):
    path = saved(tmp_path, {"W1": normal(3, 2), "W2": normal(1, 3), "bias.first": normal(3)})
    found = read_weights_network(path, Assumptions(activation="tanh"))
    assert found.left_out == (("bias.first", "a bias that belongs to no layer by its name"),)
    assert found.network.nodes[1].op.name == ""  # its values are not known
    assert read_weights_network(path).network.nodes[1].op.name == "relu"
    refused(path, "biases matter", "`bias.first`", biases=True)
    path = saved(tmp_path, {"fc1.weight": normal(3, 2), "fc1.bias": normal(2)})
    refused(path, "`fc1.bias`", "--transpose")
    path = saved(tmp_path, {"fc1.weight": normal(3, 2), "fc1.bias": normal(3), "fc1_b": normal(3)})
    refused(path, "two biases")


# --- what may be another network ---

SILENT = [
    "epoch",
    "err",
    "test_error",
    "loss_history",
    "num_batches_tracked",
    "labels",
    "metadata.width",
    "best_acc",
    "seed",
    "sampler_indices",
]
MULTIPLY = [
    "log_s", "log_scale", "gain", "alpha", "q", "s", "g", "d", "D", "diag", "layer_scale", "ls1", "psi", "rescale", "scaling",
    "temperature", "scale", "gamma", "t", "mask", "beta", "weight_scale", "1.weight", "1.running_var", "std", "mean",
    "running_mean",
]  # fmt: skip


@pytest.mark.parametrize("name", MULTIPLY)
@pytest.mark.parametrize("suffix", [".pt", ".npz", ".mat"])
def test_vectors_that_may_multiply_stop(tmp_path, name, suffix):
    arrays = {"fc1.weight": normal(3, 2), "fc1.bias": normal(3), "fc2.weight": normal(4, 3)}
    if suffix == ".mat":
        arrays = {key.replace(".", "_"): array for key, array in arrays.items()}
        name = name.replace("1.", "n1_")
    for vector in (normal(3), normal(1, 3), normal(3, 1), np.zeros(3), np.array(2.0)):
        path = saved(tmp_path, {**arrays, name: vector}, suffix)
        refused(path, f"`{name}`")
    found = read_weights_network(path, Assumptions(layers=tuple(key for key in arrays if "weight" in key)))
    assert found.left_out == ((name, "not among the layers that were named"),)
    if not name.endswith("weight"):
        ignoring = read_weights_network(path, Assumptions(ignore=(name,)))
        assert ignoring.left_out == ((name, "ignored, as was asked"),)
    refused(path, "no layer `gone`", assumptions=Assumptions(ignore=("gone",)))


@pytest.mark.parametrize("name", SILENT)
def test_what_training_leaves_behind_is_listed(tmp_path, name):
    arrays = {"fc1.weight": normal(3, 2), "fc2.weight": normal(4, 3), name: normal(3)}
    found = read_weights_network(saved(tmp_path, arrays))
    assert [left for left, _ in found.left_out] == [name]


def test_a_vector_of_no_length_in_the_network_is_listed(tmp_path):
    arrays = {"fc1.weight": normal(3, 2), "fc2.weight": normal(4, 3), "other": normal(7)}
    found = read_weights_network(saved(tmp_path, arrays))
    assert [left for left, _ in found.left_out] == ["other"]
    refused(tmp_path / "w.npz", "`other`", biases=True)


def test_matrices_beside_weights_stop(tmp_path):
    path = saved(tmp_path, {"fc1.weight": normal(3, 3), "Q": normal(3, 3), "fc2.weight": normal(3, 3)})
    refused(path, "`Q`", "--layer")
    for extra in (np.ones((3, 3), np.int64), np.ones((3, 3), bool), np.ones((3,) * 6)):
        refused(saved(tmp_path, {"fc1.weight": normal(3, 3), "m": extra}), "`m`")


STRUCTURES = {
    "blocks": ["in.weight", "blocks.0.fc1.weight", "blocks.0.fc2.weight", "out.weight"],
    "blocks of one": ["blocks.0.weight", "blocks.1.weight"],
    "MATLAB's blocks": ["in_weight", "blocks_0_fc1_weight", "blocks_0_fc2_weight"],
    "ResNet": ["conv1.weight", "layer1.0.conv1.weight", "layer1.0.conv2.weight", "fc.weight"],
    "numbered parts": ["stages.0.a.weight", "stages.0.b.weight", "head.weight"],
    "shortcut": ["fc1.weight", "fc2.weight", "shortcut.weight"],
    "downsample": ["conv1.weight", "downsample.0.weight"],
    "two networks": ["G.fc1.weight", "G.fc2.weight", "D.fc1.weight"],
    "two numbered networks": ["net1.0.weight", "net1.2.weight", "net2.0.weight"],
    "MATLAB's two networks": ["G_fc1_weight", "D_fc1_weight"],
    "teacher": ["student.fc.weight", "teacher.fc.weight"],
    "encoder": ["encoder.0.weight", "decoder.0.weight"],
    "encoder by word": ["enc_w1", "dec_w1"],
    "average of weights": ["fc1.weight", "ema.fc1.weight"],
    "copy of weights": ["fc1.weight", "copy.fc1.weight"],
    "actor": ["actor.0.weight", "critic.0.weight"],
    "attention": ["attn.q_proj.weight", "mlp.fc.weight"],
    "recurrent": ["weight_ih_l0", "weight_hh_l0"],
    "state space": ["A", "B", "C", "D"],
    "attention by letters": ["Q", "K", "V"],
    "recurrent by letters": ["Wxh", "Whh"],
    "two heads": ["fc_mu.weight", "fc_logvar.weight"],
    "ensemble": ["ensemble.0.fc1.weight", "ensemble.0.fc2.weight"],
}
CHAINS = {
    "features": ["features.0.weight", "features.3.weight", "classifier.1.weight"],
    "module": ["module.fc1.weight", "module.fc2.weight"],
    "flax": ["params/Dense_0/kernel", "params/Dense_1/kernel"],
    "lit": ["model.net.0.weight", "model.net.2.weight"],
    "input": ["input_layer.weight", "hidden.0.weight", "output_layer.weight"],
    "conv": ["conv1.conv.weight", "conv2.conv.weight", "fc.weight"],
    "MATLAB": ["params.linear_0_weight", "params.linear_1_weight"],
}


@pytest.mark.parametrize("case", STRUCTURES)
def test_names_of_other_structures_stop(tmp_path, case):
    arrays = {name: normal(3, 3) for name in STRUCTURES[case]}
    path = saved(tmp_path, arrays)
    refused(path, "`", "--layer", "ONNX")
    found = read_weights_network(path, Assumptions(layers=tuple(arrays)))
    assert found.sentences[0].endswith("as they were named, with nothing beside them.")


@pytest.mark.parametrize("case", CHAINS)
def test_names_of_chains_are_read(tmp_path, case):
    found = read_weights_network(saved(tmp_path, {name: normal(3, 3) for name in CHAINS[case]}))
    assert len(found.network.nodes) == 2 * len(CHAINS[case]) - 1


def test_a_checkpoint_of_several_networks_stops(tmp_path):
    state = nn.Linear(3, 3, bias=False).state_dict()
    for content in (
        {"model": state, "ema": {"weight": torch.ones(3, 3)}},
        {"G": state, "D": nn.Linear(3, 3).state_dict()},
    ):
        torch.save(content, tmp_path / "w.pt")
        refused(tmp_path / "w.pt", "--layer")
    torch.save(
        {"model": state, "optimizer": {"state": {0: {"m": torch.ones(3, 3)}}}, "epoch": 3}, tmp_path / "w.pt"
    )
    assert read_weights_network(tmp_path / "w.pt").left_out == (
        ("optimizer.state.0.m", "a state of training"),
    )


# --- order ---


def test_numbers_in_names_and_the_order_of_the_file_must_agree(tmp_path):
    arrays = {f"fc{k}.weight": normal(3, 3) for k in (1, 10, 2)}
    refused(saved(tmp_path, arrays), "order", "--layer")
    named = read_weights_network(
        tmp_path / "w.npz", Assumptions(layers=("fc1.weight", "fc2.weight", "fc10.weight"))
    )
    assert [node.name for node in named.network.nodes[::2]] == ["fc1.weight", "fc2.weight", "fc10.weight"]
    arrays = {"fc1.weight": normal(3, 2), "fc10.weight": normal(1, 5), "fc2.weight": normal(5, 3)}
    found = read_weights_network(saved(tmp_path, arrays))
    assert [node.name for node in found.network.nodes[::2]] == ["fc1.weight", "fc2.weight", "fc10.weight"]
    assert "only order that fits" in found.sentences[0]


def test_an_output_layer_among_others_stops(tmp_path):
    path = saved(
        tmp_path, {name: normal(3, 3) for name in ("fc1.weight", "output.weight", "fc2.weight")}, ".pt"
    )
    refused(path, "behind `output.weight`", "--layer")


def test_formats_without_order_need_numbers_or_shapes(tmp_path):
    shapes = {"input.weight": (5, 4), "hidden.weight": (6, 5), "output.weight": (2, 6)}
    path = saved(tmp_path, {name: normal(*shape) for name, shape in shapes.items()}, ".safetensors")
    assert [node.name for node in read_weights_network(path).network.nodes[::2]] == list(shapes)
    path = saved(tmp_path, {name: normal(3, 3) for name in shapes}, ".safetensors")
    refused(path, "several orders fit", "--layer")
    names = [f"layers.{k}.weight" for k in range(11)]
    path = saved(tmp_path, {name: normal(3, 3) for name in names}, ".safetensors")
    assert [node.name for node in read_weights_network(path).network.nodes[::2]] == names
    many = {f"{chr(97 + k)}.weight": normal(3, 3) for k in range(20)}
    refused(saved(tmp_path, many, ".safetensors"), "several orders fit")


# --- activations ---


def test_activations_by_name_with_parameters():
    assert between("relu", (3,)).name == "relu"
    for shape in ((6,), (6, 2, 3)):
        x = normal(4, *shape)
        pairs = np.sort(x.reshape(4, 3, 2, -1), 2).reshape(4, -1)
        halves = np.sort(x.reshape(4, 2, 3, -1), 1)[:, ::-1].reshape(4, -1)
        triples = np.sort(x.reshape(4, 2, 3, -1), 2).reshape(4, -1)
        for kind, expected in (("maxmin", pairs), ("maxmin-halves", halves), ("groupsort:3", triples)):
            op = between(kind, shape)
            assert isinstance(op, Sort)
            assert np.array_equal(op.value(x.reshape(4, -1)), expected)
    free = between("relu", (2,), (-0.5, 2.0))
    assert isinstance(free, Activation) and (free.name, *free.alpha, *free.beta) == ("", -0.5, -0.5, 2.0, 2.0)
    for kind in ("swoosh", "relu:3", "groupsort:4", "groupsort:x", "maxmin:2"):
        with pytest.raises(InvalidWeight, match=r"activation|groups"):
            between(kind, (6,))
    with pytest.raises(InvalidWeight, match="alpha"):
        between("relu", (2,), (1.0, 0.0))


def test_networks_of_arrays():
    Ws, bs = [normal(4, 3), normal(2, 4)], [normal(4), None]
    net, x = weights_network(Ws, "relu", bs), normal(5, 3)
    np.testing.assert_allclose(net(x), np.maximum(x @ Ws[0].T + bs[0], 0) @ Ws[1].T, atol=1e-14)
    with pytest.raises(InvalidWeight, match="as many biases"):
        weights_network(Ws, "relu", [None])
    with pytest.raises(InvalidWeight, match="--image-size"):
        weights_network([normal(4, 3, 3, 3)])


# --- files that nobody trusts ---


def test_assumptions_survive_json_and_refuse_nonsense():
    said = Assumptions(
        "tanh",
        None,
        True,
        ("a", "b"),
        (),
        (28, 28),
        {"": {"stride": 2}, "a": {"padding": (1, 2)}},
        "hwc",
        True,
    )
    assert Assumptions.from_json(said.to_json()) == said
    assert Assumptions.from_json({}) == Assumptions() and Assumptions().to_json() == {}
    assert Assumptions.from_json(Assumptions(transpose=False).to_json()).transpose is False
    nonsense = [
        [], None, {"x": 1}, {"activation": 3}, {"slopes": [0, float("inf")]}, {"slopes": [1]}, {"layers": "ab"}, {"layers": [1]},
        {"image_size": -1}, {"image_size": [1] * 9}, {"geometry": {"": {"stride": "2"}}}, {"geometry": {"": {"depth": 2}}},
        {"geometry": {"": {"stride": 2**70}}}, {"flatten": "abc"}, {"flatten": ["chw"]}, {"average": 1}, {"transpose": "no"},
    ]  # fmt: skip
    for data in nonsense:
        with pytest.raises(InvalidCertificate):
            Assumptions.from_json(data)


@pytest.mark.parametrize(
    "moves",
    [
        {"padding": 2**30},
        {"dilation": 2**30},
        {"stride": 0},
        {"groups": 7},
        {"max_pool": 0},
        {"max_pool": 99},
        {"padding_mode": "x"},
    ],
)
def test_geometry_that_makes_no_sense_is_refused(tmp_path, moves):
    path = saved(tmp_path, {"conv.weight": normal(4, 2, 3, 3), "fc.weight": normal(2, 4 * 36)})
    refused(path, assumptions=Assumptions(image_size=6, geometry={"": moves}))
    refused(path, assumptions=Assumptions(image_size=2**20))
    refused(path, "no layer is a convolution", assumptions=Assumptions(layers=("fc.weight",), image_size=6))


def test_every_array_is_in_the_network_or_left_out(tmp_path):
    pool = [
        ("W1", normal(3, 3)),
        ("b1", normal(3)),
        ("W2", normal(3, 3)),
        ("bias", normal(3)),
        ("x", normal(9, 2)),
        ("e", np.arange(4)),
    ]
    for size, arrays in itertools.product(range(1, 5), [pool]):
        for chosen in itertools.combinations(arrays, size):
            path = saved(tmp_path, dict(chosen))
            try:
                found = read_weights_network(path)
            except SdplipError:
                continue
            layers = [node.name for node in found.network.nodes if node.name]
            biases = sum(getattr(node.op, "b", None) is not None for node in found.network.nodes)
            assert len(layers) + biases + len(found.left_out) == len(chosen)


def test_copies_in_another_order_are_left_out(tmp_path):
    K, W = normal(4, 1, 3, 2), normal(5, 4 * 30)
    arrays = {
        "n_0_weight": K,
        "n_0_weight_matlab_format": K.transpose(2, 3, 1, 0),
        "n_1_weight": W,
        "n_1_weight_transpose": W.T,
    }
    found = read_weights_network(saved(tmp_path, arrays, ".mat"), Assumptions(image_size=(6, 5)))
    assert [name for name, _ in found.left_out] == ["n_0_weight_matlab_format", "n_1_weight_transpose"]
    arrays["n_1_weight_transpose"] = 2 * W.T
    refused(saved(tmp_path, arrays, ".mat"), "`n_1_weight_transpose`")


# --- small cases and published files ---

READ = {
    "checkpoint_numpy_scalar.pt": (2, 3),
    "flax_square_kernel.npz": (2, 2),
    "integer_matrix.csv": (3, 2),
    "legacy_torch.pth": (2, 3),
    "lipsdp_single_layer_object_array.mat": (2, 10),
    "nnet_without_comment.nnet": (2, 2),
    "partial_biases.pt": (64, 10),
}
STOPPED = [
    "checkpoint_two_networks_G_D.pt",
    "multiplying_vector_alpha.pt",
    "multiplying_vector_gain.pt",
    "multiplying_vector_log_s.pt",
    "residual_blocks_state_dict.pt",
    "zero_mask_buffer.pt",
]


def test_small_cases(benchmark_files):
    folder = benchmark_files.parent / "cases"
    if not folder.is_dir():
        pytest.skip("needs the folder of small cases")
    for name, (inputs, outputs) in READ.items():
        network = read_weights_network(folder / name).network
        assert (network.inputs, network.outputs) == (inputs, outputs), name
    for name in STOPPED:
        refused(folder / name, "--layer")
    single = read_weights_network(folder / "lipsdp_single_layer_object_array.mat").network
    assert np.linalg.norm(single.nodes[0].op.dense(), 2) == pytest.approx(3.55632, abs=1e-5)


def test_published_files(benchmark_files):
    folder = benchmark_files
    digits = Assumptions(transpose=True, image_size=8, flatten="whc")
    assert read_weights_network(folder / "glipsdp_digits_cnn3_seed0.mat", digits).network.outputs == 10
    mnist = Assumptions(image_size=28, average=True)
    assert read_weights_network(folder / "glipsdp_mnist_cnn_C3_CH8.mat", mnist).network.inputs == 784
    strided = Assumptions(image_size=28, geometry={"": {"stride": 2, "padding": 1}})
    assert read_weights_network(folder / "glipsdp_versatility_2C2F.mat", strided).network.outputs == 10
    for name in ("FC-R18", "C-R18"):
        refused(folder / f"glipsdp_versatility_{name}.mat", "blocks", "ONNX")
    public = folder.parent / "public"
    if public.is_dir():
        geometry = {"net_0": {"padding": 2, "max_pool": 2}, "net_3": {"padding": 0, "max_pool": 2}}
        lenet = Assumptions(image_size=28, geometry=geometry)
        found = read_weights_network(public / "LeNet5ReLU.mat", lenet)
        assert (found.network.inputs, found.network.outputs) == (784, 10)
        kw = Assumptions(image_size=28, geometry={"": {"stride": 2, "padding": 1}})
        assert read_weights_network(public / "kw_mnist.pth", kw).network.outputs == 10
        for name in ("FC-R18.pt", "C-R18.pt", "abc_resnet2b.pth"):
            refused(public / name, "ONNX")


def test_runs_of_ours_hold_parameters_and_no_weights(tmp_path):
    save_file({"0.weight": normal(3, 3)}, tmp_path / "model.safetensors", metadata={"sdplip": "{}"})
    refused(tmp_path / "model.safetensors", "run", "certify")


def test_unknown_layers_are_named(tmp_path):
    path = saved(tmp_path, {"fc1.weight": normal(3, 3)})
    with pytest.raises(UnknownLayer, match=r"fc1\.weight"):
        read_weights_network(path, Assumptions(layers=("fc1",)))
    assert (
        collections.Counter(read_weights_network(path).sentences)["`fc1.weight` is the whole network."] == 1
    )


NNET = "2,2,1,2,\n2,2,1,\n0,\n0,0,\n1,1,\n0,0,0,\n1,1,1,\n1,0,\n0,1,\n0,\n0,\n1,1,\n0,\n"


@pytest.mark.parametrize("said", [{"slopes": [0, 0]}, {"activation": "tanh"}, {"activation": "leaky_relu:0"}])
def test_a_format_that_says_relu_takes_nothing_else(said, tmp_path):
    path = tmp_path / "net.nnet"
    path.write_text("// a comment\n" + NNET)
    assert read_file(path, {"kind": "weights", "activation": "ReLU"}).network.outputs == 1
    with pytest.raises(InvalidWeight, match="relu"):
        read_file(path, {"kind": "weights", **said})


def test_slopes_beside_a_name_are_refused(tmp_path):
    path = tmp_path / "net.npz"
    np.savez(path, W1=np.eye(2), W2=np.eye(2))
    with pytest.raises(InvalidCertificate, match="both say"):
        read_file(path, {"kind": "weights", "activation": "relu", "slopes": [0, 0]})

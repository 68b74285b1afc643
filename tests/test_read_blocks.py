"""Residual blocks of weight files: the function of torch where the user states them, refused where nobody does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sdplip.bounds import bound
from sdplip.errors import InvalidCertificate, InvalidWeight, SdplipError, UnknownLayer
from sdplip.network.read.file import read_file
from sdplip.network.read.weights import Assumptions, read_geometry, read_weights_network
from tests.commands import invoke


class Dense(nn.Module):
    """x + fc2(relu(fc1(x))), with or without relu behind the sum."""

    def __init__(self, n: int, after: bool):
        super().__init__()
        self.fc1, self.fc2, self.after = nn.Linear(n, n + 2), nn.Linear(n + 2, n), after

    def forward(self, x):
        y = x + self.fc2(torch.relu(self.fc1(x)))
        return torch.relu(y) if self.after else y


class Fully(nn.Module):
    def __init__(self, after: bool):
        super().__init__()
        self.input_layer = nn.Linear(5, 4)
        self.blocks = nn.ModuleList([Dense(4, after), Dense(4, after)])
        self.output_layer = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.input_layer(x))
        for block in self.blocks:
            x = block(x)
        return self.output_layer(x)


class Basic(nn.Module):
    """The basic block of a ResNet, with a convolution in the place of x where the shapes differ."""

    def __init__(self, into: int, out: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = nn.Sequential()
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.downsample(x) + self.bn2(self.conv2(y)))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 3, 3, 1, 1, bias=False), nn.BatchNorm2d(3)
        self.layer1 = nn.Sequential(Basic(3, 3, 1), Basic(3, 3, 1))
        self.layer2 = nn.Sequential(Basic(3, 4, 2))
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x)))))
        return self.fc(x.mean((2, 3)))


RESNET = Assumptions(
    image_size=(6, 4),
    average=True,
    structure="resnet",
    geometry={
        "layer2.0.conv1": {"stride": 2, "padding": 1},
        "layer2.0.downsample.0": {"stride": 2, "padding": 0},
    },
)


def lively(module: nn.Module) -> nn.Module:
    """With statistics as after training, in double and evaluation mode."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for vector, low in ((part.running_mean, -1), (part.running_var, 0.5), (part.weight, -1)):
                assert vector is not None
                vector.data.uniform_(low, 2)
    return module.double().eval()


def saved(folder: Path, module: nn.Module) -> Path:
    torch.save(module.state_dict(), folder / "w.pt")
    return folder / "w.pt"


def assert_same(path: Path, said: Assumptions, module: nn.Module, shape: tuple[int, ...]) -> None:
    """Values of the network that was read, and of it read again as a certificate says it; its bound is above a Jacobian."""
    found = read_weights_network(path, said, biases=True)
    again = read_file(path, {"kind": "weights", **found.reading}).network
    x = torch.randn(7, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = module(x).detach().numpy()
    for network in (found.network, again):
        np.testing.assert_allclose(network(x.reshape(7, -1).numpy()), wanted, rtol=1e-9, atol=1e-12)
    J = torch.autograd.functional.jacobian(lambda z: module(z[None])[0], x[0]).reshape(wanted.shape[1], -1)
    assert float(torch.linalg.matrix_norm(J, 2)) <= bound(found.network, "product").bound


@pytest.mark.parametrize(("after", "structure"), [(False, "residual"), (True, "resnet")])
def test_blocks_of_matrices_are_those_of_torch(tmp_path, after, structure):
    module = lively(Fully(after))
    path = saved(tmp_path, module)
    assert_same(path, Assumptions(structure=structure), module, (5,))
    text = " ".join(read_weights_network(path, Assumptions(structure=structure)).sentences)
    assert "`blocks.0`, `blocks.1`" in text and "as was said" in text
    assert ("and behind the sum" if after else "nothing behind the sum") in text
    with pytest.raises(InvalidWeight, match="--structure"):
        read_weights_network(path)


def test_files_of_blocks_alone_and_without_order(tmp_path):
    module = lively(nn.Sequential(Dense(4, False), Dense(4, False)))
    path = saved(tmp_path, module)
    assert_same(path, Assumptions(structure="residual"), module, (4,))
    module = lively(Fully(after=True))
    save_file(module.state_dict(), tmp_path / "w.safetensors")  # sorted by name there
    assert_same(tmp_path / "w.safetensors", Assumptions(structure="resnet"), module, (5,))


def test_a_residual_network_of_images_is_that_of_torch(tmp_path):
    module = lively(ResNet())
    path = saved(tmp_path, module)
    assert_same(path, RESNET, module, (2, 6, 4))
    text = " ".join(read_weights_network(path, RESNET).sentences)
    assert "In `layer2.0`, `layer2.0.downsample.0.weight` acts on x" in text
    assert "`layer1.0.bn2` normalises what `layer1.0.conv2.weight` makes" in text
    with pytest.raises(InvalidWeight, match="normalisation layer"):  # nobody said where it stands
        read_weights_network(path, replace(RESNET, structure=None))
    half = {"layer2.0.conv1": RESNET.geometry["layer2.0.conv1"]}
    with pytest.raises(InvalidWeight, match=r"`layer2\.0` adds f"):
        read_weights_network(path, replace(RESNET, geometry=half))


def test_blocks_are_said_one_by_one(tmp_path):
    """x + maxmin(W x) between linear layers, as in networks whose files have no names."""
    rng = np.random.default_rng(0)
    W = [rng.normal(size=shape) for shape in [(4, 6), (4, 4), (4, 4), (2, 4)]]
    np.savez(tmp_path / "w.npz", W0=W[0], W1=W[1], W2=W[2], W3=W[3])
    (tmp_path / "g.toml").write_text(
        'activation = "maxmin"\nbare = ["W0"]\n'
        '[[block]]\nlayers = ["W1"]\nactivation = "behind"\n'
        '[[block]]\nlayers = ["W2"]\nactivation = "before"\nsum = "activated"\n'
    )
    said = read_geometry(tmp_path / "g.toml", Assumptions())
    found = read_weights_network(tmp_path / "w.npz", said)

    def maxmin(y):
        return np.sort(y.reshape(-1, 2), -1).ravel()

    x = rng.normal(size=6)
    y = W[0] @ x
    y = y + maxmin(W[1] @ y)
    y = maxmin(y + W[2] @ maxmin(y))
    np.testing.assert_allclose(np.sort(found.network(x)), np.sort(W[3] @ y), rtol=1e-12)
    assert "Nothing stands behind `W0`, as was said." in found.sentences
    assert Assumptions.from_json(said.to_json()) == said


WRONG = {
    "two blocks": {"blocks": ({"layers": ("W1",)}, {"layers": ("W1",)})},
    "order": {"blocks": ({"layers": ("W2", "W1")},)},
    "gap": {"blocks": ({"layers": ("W1", "W3")},)},
    "unknown": {"blocks": ({"layers": ("W9",)},)},
    "unknown bare": {"bare": ("W9",)},
    "shape": {"blocks": ({"layers": ("W0",)},)},
    "no names": {"structure": "residual"},
    "both": {"structure": "residual", "blocks": ({"layers": ("W1",)},)},
}


@pytest.mark.parametrize("case", WRONG)
def test_blocks_that_cannot_be_are_refused(tmp_path, case):
    np.savez(tmp_path / "w.npz", W0=np.ones((4, 3)), W1=np.eye(4), W2=np.eye(4), W3=np.ones((4, 4)))
    with pytest.raises((InvalidWeight, UnknownLayer)):
        read_weights_network(tmp_path / "w.npz", Assumptions(**WRONG[case]))


@pytest.mark.parametrize(
    "blocks", ["W", [3], [{}], [{"layers": []}], [{"layers": ["a"], "sum": "x"}], [{"layers": ["a"], "x": 1}]]
)
def test_blocks_from_files_that_nobody_trusts(blocks):
    with pytest.raises(InvalidCertificate):
        Assumptions.from_json({"blocks": blocks})
    with pytest.raises(InvalidCertificate):
        Assumptions.from_json({"structure": "tree"})


def test_a_certificate_says_what_was_stated_and_verify_rebuilds_it(tmp_path):
    path, proof = saved(tmp_path, lively(Fully(after=False))), tmp_path / "C.json"
    said = "Residual blocks, x + f(x): `blocks.0`, `blocks.1`"
    asked = ("bound", path, "--structure", "residual", "--method", "product", "--certificate", proof)
    code, out, _ = invoke(*asked)
    assert code == 0 and 0 < out.index(said) < out.index("Proven")
    code, out, _ = invoke("verify", proof, path)
    assert code == 0 and said in out
    proof.write_text(proof.read_text().replace('"structure": "residual"', '"structure": "tree"'))
    assert invoke("verify", proof, path)[0] == 2


def test_public_residual_networks(benchmark_files):
    """The product of GLipSDP's study, and a network that its authors ship as weights and as ONNX."""
    folder = benchmark_files.parent / "public"
    for path in (folder / "FC-R18.pt", benchmark_files / "glipsdp_versatility_FC-R18.mat"):
        found = read_weights_network(path, Assumptions(structure="residual"))
        assert bound(found.network, "product").bound == pytest.approx(56.22946, rel=1e-6)
        with pytest.raises(SdplipError, match="blocks"):
            read_weights_network(path)
    moves = {"conv1": (2, 1), "layer1.0.conv1": (2, 1), "layer1.0.shortcut.0": (2, 0)}
    geometry = {name: {"stride": stride, "padding": pad} for name, (stride, pad) in moves.items()}
    said = Assumptions(structure="resnet", image_size=32, geometry=geometry)
    bare = read_weights_network(folder / "abc_resnet2b.pth", said, biases=True).network
    graph = read_file(folder / "resnet_2b.onnx", compare=False).network
    x = np.random.default_rng(0).uniform(size=(3, 3072))
    np.testing.assert_allclose(bare(x), graph(x), rtol=1e-9)

"""Residual sums from ONNX graphs and by hand: identity and linear shortcuts, activations behind the sum."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.bounds import bound, estimate_lower
from sdplip.bounds.samples import value_and_jacobian
from sdplip.certificates.region import Ball
from sdplip.certificates.system_file import load_system, maps, save_system, system_record, verify_system
from sdplip.errors import InvalidWeight
from sdplip.networks import Activation, Affine, Diagonal, Network, Residual, system_layers
from sdplip.networks.onnx import from_onnx
from tests.commands import answer, invoke
from tests.graphs import exported
from tests.test_networks import save_onnx

CLOSE = 1e-7
"""Relative accuracy of the interior-point method on the bound."""


pytestmark = pytest.mark.usefixtures("one_thread")


class Block(nn.Module):
    """`relu(x + fc2(relu(fc1(x))))`, as torchvision's blocks and GLipSDP's FC-R18; other forms by `kind`."""

    def __init__(self, width: int, kind: str):
        super().__init__()
        self.fc1, self.fc2, self.kind = nn.Linear(width, 3), nn.Linear(3, width), kind
        self.projection = nn.Linear(width, width, bias=False) if "projected" in kind else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f, s = self.fc2(torch.relu(self.fc1(x))), self.projection(x)
        y = {"minus": lambda: s - f, "reversed": lambda: f + s, "under": lambda: f - s}.get(
            self.kind, lambda: s + f
        )()
        return torch.relu(y) if "after" in self.kind or self.kind in ("minus", "under") else y


class Images(nn.Module):
    """A residual block of images with a strided projection, as in ResNet."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, 1, 1)
        self.projection, self.head = nn.Conv2d(1, 2, 1, 2, bias=False), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.b(torch.relu(self.a(x))) + self.projection(x)).flatten(1))


def dense(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), Block(4, kind), Block(4, kind), nn.Linear(4, 3)).double()


CASES = {
    **{
        kind: (lambda kind=kind: dense(kind), (5,))
        for kind in ("after", "plain", "reversed", "minus", "under")
    },
    "projected after": (lambda: dense("projected after"), (5,)),
    "images": (lambda: torch.manual_seed(1) and Images().double(), (1, 4, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_exported_residual_networks_are_bounded_above_their_jacobians(tmp_path, name):
    make, shape = CASES[name]
    net = make().eval()
    network = from_onnx(exported(net, shape, tmp_path / "net.onnx"))
    assert any(isinstance(layer, Residual) for layer in network.layers)
    value = {method: bound(network, method).value for method in ("product", "riccati", "lipsdp-neuron")}
    assert value["lipsdp-neuron"] <= min(value["product"], value["riccati"]) * (1 + CLOSE)
    layers, rng, largest = system_layers(network), np.random.default_rng(0), 0.0
    for x in rng.normal(size=(40, *shape)) * 10.0 ** rng.uniform(-1, 1, (40, *(1 for _ in shape))):
        there = torch.tensor(x)[None]
        J = torch.autograd.functional.jacobian(net, there).reshape(-1, x.size).numpy()
        y, same = value_and_jacobian(layers, x.reshape(-1))
        np.testing.assert_allclose(y, net(there).detach().numpy()[0], atol=1e-12)
        np.testing.assert_allclose(same, J, atol=1e-12)
        largest = max(largest, float(np.linalg.norm(J, 2)))
    assert largest <= value["lipsdp-neuron"]
    assert estimate_lower(network) <= value["lipsdp-neuron"]


def test_a_linear_shortcut_changes_nothing_that_it_should_not():
    rng = np.random.default_rng(0)
    A, B, C = rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.normal(size=(3, 5))
    branch, relu = (Affine(B), Activation(kind="relu"), Affine(C)), Activation(kind="relu")
    # In front of an identity shortcut the same map; a branch of zeros leaves the shortcut alone.
    square = (Affine(rng.normal(size=(4, 4))), relu, Affine(rng.normal(size=(4, 4))))
    eye = Network((Residual(square, (Affine(np.eye(4)),)), relu))
    assert bound(eye, "lipsdp-neuron").value == pytest.approx(
        bound(Network((Residual(square), relu)), "lipsdp-neuron").value, rel=CLOSE
    )
    nothing = Network((Residual((*branch[:2], Affine(0 * C)), (Affine(A),)), relu))
    assert bound(nothing, "lipsdp-neuron").value == pytest.approx(np.linalg.norm(A, 2), rel=CLOSE)
    # Two linear layers in a row, one of them known up to an error only.
    d = Diagonal(rng.uniform(0.5, 2, 3), error=2.0**-50)
    twice = bound(Network((Residual(branch, (Affine(A), d)), relu)), "lipsdp-neuron").value
    once = bound(Network((Residual(branch, (Affine(d.d[:, None] * A),)), relu)), "lipsdp-neuron").value
    assert twice == pytest.approx(once, rel=CLOSE)


def test_shortcuts_on_regions_and_in_certificate_files(tmp_path):
    rng = np.random.default_rng(1)
    relu = Activation(kind="relu")
    branch = (Affine(rng.normal(size=(5, 3)), rng.normal(size=5)), relu, Affine(rng.normal(size=(2, 5))))
    net = Network(
        (Residual(branch, (Affine(rng.normal(size=(2, 3)), rng.normal(size=2)),)), relu, Affine(np.eye(2)))
    )
    ball = Ball(rng.normal(size=3), 0.5)
    local, everywhere = bound(net, "lipsdp-neuron", region=ball), bound(net, "lipsdp-neuron")
    assert local.lower * (1 - 1e-9) <= local.value <= everywhere.value * (1 + CLOSE)
    for found in (local, everywhere):
        save_system(tmp_path / "C.json", system_record("net", found.claim, found.system_certificate))
        entry = load_system(tmp_path / "C.json")
        assert verify_system(entry, list(maps(system_layers(net)))).proven


def test_a_residual_graph_has_a_certificate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported(dense("after").eval(), (5,), tmp_path / "net.onnx")
    exported(dense("plain").eval(), (5,), tmp_path / "plain.onnx")
    code, document = answer(invoke, "bound", "net.onnx", "--certificate", "C.json")
    assert (code, document["certificate"]) == (0, "C.json")
    assert invoke("verify", "C.json", "net.onnx")[0] == 0
    code, document = answer(
        invoke, "verify", "C.json", "plain.onnx"
    )  # the same weights without the last ReLU
    assert (code, document["proven"]) == (1, False)


def test_more_slope_behind_the_sum_never_lowers_the_bound():
    rng = np.random.default_rng(2)
    A, B = rng.normal(size=(2, 4, 4))
    values = []
    for ends in ((1.0, 1.0), (0.4, 1.0), (0.0, 1.0), (-0.2, 1.2)):
        block = Residual((Affine(A), Activation(kind="relu"), Affine(B)))
        values.append(bound(Network((block, Activation(*ends), block, Affine(A))), "lipsdp-neuron").value)
    assert all(a <= b * (1 + CLOSE) for a, b in itertools.pairwise(values))


REFUSED = {
    "both with activations": [
        ("Relu", ["x"], "a", {}),
        ("MatMul", ["x", "w"], "b", {}),
        ("Relu", ["b"], "c", {}),
        ("Add", ["a", "c"], "y", {}),
    ],
    "a value that is not used": [
        ("MatMul", ["x", "w"], "a", {}),
        ("Relu", ["x"], "b", {}),
        ("MatMul", ["x", "w"], "y", {}),
    ],
    "twice the same": [("Add", ["x", "x"], "y", {})],
    "a product of branches": [("MatMul", ["x", "w"], "a", {}), ("Mul", ["x", "a"], "y", {})],
    "three branches": [("MatMul", ["x", "w"], "a", {}), ("Sum", ["x", "a", "a"], "y", {})],
    "an activation alone": [
        ("MatMul", ["x", "w"], "a", {}),
        ("Relu", ["a"], "b", {}),
        ("Add", ["a", "b"], "y", {}),
    ],
    "another width": [("MatMul", ["x", "v"], "a", {}), ("Add", ["x", "a"], "y", {})],
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_branches_are_refused_by_name(tmp_path, name):
    arrays = {"w": np.ones((2, 2), np.float32), "v": np.ones((2, 1), np.float32)}
    save_onnx(tmp_path / "net.onnx", REFUSED[name], arrays, 2)
    with pytest.raises(InvalidWeight, match=r"does not continue|not covered|affine layer|added to its input"):
        from_onnx(tmp_path / "net.onnx")
    with pytest.raises(InvalidWeight, match="shortcut"):
        Network((Residual((Affine(np.eye(2)),), (Activation(),)),))  # pyright: ignore[reportArgumentType]

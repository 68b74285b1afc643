"""Residual sums from ONNX graphs and by hand: identity and linear shortcuts, activations behind the sum."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.bounds.below import estimate_lower, jacobian
from sdplip.bounds.choose import bound
from sdplip.kernel.regions import Ball
from sdplip.network import Activation, Builder, Dense, Network, Sum
from sdplip.network.read.anything import understand
from tests.commands import answer, invoke
from tests.graphs import exported

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
    network = understand(exported(net, shape, tmp_path / "net.onnx")).network
    assert any(isinstance(node.op, Sum) for node in network.nodes)
    value = {method: bound(network, method).value for method in ("product", "riccati", "lipsdp-neuron")}
    assert value["lipsdp-neuron"] <= min(value["product"], value["riccati"]) * (1 + CLOSE)
    rng, largest = np.random.default_rng(0), 0.0
    for x in rng.normal(size=(40, *shape)) * 10.0 ** rng.uniform(-1, 1, (40, *(1 for _ in shape))):
        there = torch.tensor(x)[None]
        J = torch.autograd.functional.jacobian(net, there).reshape(-1, x.size).numpy()
        np.testing.assert_allclose(network(x.reshape(-1)), net(there).detach().numpy()[0], atol=1e-12)
        np.testing.assert_allclose(jacobian(network, x.reshape(-1)), J, atol=1e-12)
        largest = max(largest, float(np.linalg.norm(J, 2)))
    assert largest <= value["lipsdp-neuron"]
    assert estimate_lower(network) <= value["lipsdp-neuron"]


def residual(A, B, C, shortcut=None, behind=None) -> Network:
    """s(x) + C relu(B A x), with A in front of both where there is one."""
    builder = Builder((B.shape[1] if A is None else A.shape[1],))
    start = 0 if A is None else builder.add(Dense(A), 0)
    branch = builder.add(Activation("relu", len(B)), builder.add(Dense(B), start))
    branch = builder.add(Dense(C), branch)
    short = start if shortcut is None else builder.add(Dense(shortcut), start)
    total = builder.add(Sum((1, 1), len(C)), short, branch)
    return builder.finish(total if behind is None else builder.add(behind, total))


def test_a_linear_shortcut_changes_nothing_that_it_should_not():
    rng = np.random.default_rng(0)
    A, B, C = rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.normal(size=(4, 5))
    relu = Activation("relu", 4)
    plain, eye = (
        bound(residual(None, B, C, short, relu), "lipsdp-neuron").value for short in (None, np.eye(4))
    )
    assert eye == pytest.approx(plain, rel=CLOSE)
    nothing = bound(residual(None, B, np.zeros((3, 5)), A, Activation("relu", 3)), "lipsdp-neuron").value
    assert nothing == pytest.approx(np.linalg.norm(A, 2), rel=CLOSE)


def test_shortcuts_on_regions():
    rng = np.random.default_rng(1)
    B, C, A = rng.normal(size=(5, 3)), rng.normal(size=(2, 5)), rng.normal(size=(2, 3))
    net = residual(None, B, C, A, Activation("relu", 2))
    ball = Ball(rng.normal(size=3), 0.5)
    local, everywhere = bound(net, "lipsdp-neuron", region=ball), bound(net, "lipsdp-neuron")
    assert local.lower * (1 - 1e-9) <= local.value <= everywhere.value * (1 + CLOSE)


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
    for low, high in ((1.0, 1.0), (0.4, 1.0), (0.0, 1.0), (-0.2, 1.2)):
        ends = Activation("", 4, alpha=np.full(4, low), beta=np.full(4, high))
        values.append(bound(residual(A, A, B, behind=ends), "lipsdp-neuron").value)
    assert all(a <= b * (1 + CLOSE) for a, b in itertools.pairwise(values))

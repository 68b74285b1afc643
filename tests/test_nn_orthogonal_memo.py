"""In eval mode orthogonal layers compute their weight once, and it is never that of other parameters."""

import copy

import pytest
import torch
from torch import nn
from torch.func import vmap
from torch.nn.utils import parametrizations

from sdplip.errors import RefusedModule
from sdplip.nn import export_plain, lipschitz, orthogonal
from sdplip.nn.orthogonal import TallCayley, Trivialised

LAYERS = [
    ("exp", (5, 5)),
    ("exp", (3, 4)),
    ("cayley", (5, 5)),
    ("cayley", (4, 5)),
    ("cayley", (3, 9)),
    ("householder", (4, 6)),
]
every_layer = pytest.mark.parametrize(("method", "sizes"), LAYERS)


def build(method, sizes):
    torch.manual_seed(0)
    layer = orthogonal(nn.Linear(*sizes), method)
    with torch.no_grad():
        layer.parametrizations.weight.original.add_(torch.randn(layer.weight.shape) / 3)
    return layer


def fresh(layer):
    """What the layer would compute without a memory: in training there is none."""
    return copy.deepcopy(layer).train().weight.detach()


def assigned(layer):
    layer.weight = (
        torch.linalg.qr(torch.randn(layer.weight.shape[::-1]).repeat(3, 1))[0].mT[:, : layer.weight.shape[1]]
        / 2
    )


def stepped(layer):
    optimiser = torch.optim.Adam(layer.parameters(), 0.1)
    layer(torch.randn(4, layer.in_features, dtype=layer.weight.dtype)).square().sum().backward()
    optimiser.step()


def averaged(layer):
    other = copy.deepcopy(layer)
    stepped(other)
    vector = nn.utils.parameters_to_vector(other.parameters())
    nn.utils.vector_to_parameters(vector, layer.parameters())


CHANGES = {
    "optimiser step": stepped,
    "in place": lambda layer: layer.parametrizations.weight.original.mul_(1.5),
    "data": lambda layer: setattr(layer.parametrizations.weight.original, "data", layer.parametrizations.weight.original / 2),
    "vector": averaged,
    "load": lambda layer: layer.load_state_dict({k: v + 0.25 for k, v in layer.state_dict().items()}),
    "load base": lambda layer: layer.load_state_dict({k: v if "original" in k else -v for k, v in layer.state_dict().items()}),
    "load assign": lambda layer: layer.load_state_dict({k: -v for k, v in layer.state_dict().items()}, assign=True),
    "double": lambda layer: layer.double(),
    "to": lambda layer: layer.to(torch.float64),
    "assigned weight": assigned,
    "train, eval": lambda layer: (layer.train(), stepped(layer), layer.eval()),
    "data in place, eval": lambda layer: (layer.parametrizations.weight.original.data.mul_(2), layer.eval()),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@every_layer
def test_the_weight_is_that_of_the_parameters(method, sizes, change):
    layer = build(method, sizes).eval()
    before = layer.weight.detach().clone()
    with torch.set_grad_enabled(change in ("optimiser step", "vector", "train, eval")):
        CHANGES[change](layer)
    after = layer.weight.detach()
    torch.testing.assert_close(after, fresh(layer), rtol=0, atol=0)
    none = change in ("double", "to") or (change == "load base" and sizes == (3, 9))  # which has no base
    assert torch.equal(after.float(), before) <= none, "The change changes something."


@every_layer
def test_it_is_computed_once_in_eval(method, sizes, monkeypatch):
    layer, count = build(method, sizes), []
    for cls in (Trivialised, TallCayley):
        now = cls.now
        monkeypatch.setattr(cls, "now", lambda *a, now=now: count.append(1) or now(*a))
    x = torch.randn(2, sizes[0])
    y = layer(x), layer(x)
    assert len(count) == 2
    layer.eval()
    with torch.inference_mode():
        layer(x)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        layer(x)
    torch.testing.assert_close(layer(x), y[0], rtol=0, atol=0)
    torch.testing.assert_close(vmap(layer)(x), y[0])
    copy.deepcopy(layer)
    assert len(count) == 3


@every_layer
def test_gradients_of_the_memory_are_those_of_training(method, sizes):
    layer, x = build(method, sizes).double(), torch.randn(3, sizes[0], dtype=torch.float64)

    def gradients():
        layer.zero_grad()
        layer(x).pow(3).sum().backward()
        return [p.grad.clone() for p in layer.parameters()]

    expected = gradients()
    layer.eval()
    for _ in range(2):  # the second time from memory
        for a, b in zip(gradients(), expected, strict=True):
            torch.testing.assert_close(a, b)


@every_layer
def test_a_memory_that_nothing_renewed_is_not_certified(method, sizes):
    layer = build(method, sizes).eval()
    layer(torch.ones(1, sizes[0]))
    layer.parametrizations.weight.original.data.mul_(1.5)  # the one change that PyTorch does not record
    with pytest.raises(RefusedModule, match="eval"):
        lipschitz(layer)
    assert float(lipschitz(layer.eval())) == pytest.approx(1, abs=1e-5)


@every_layer
def test_states_are_those_of_torch(method, sizes):
    """Checkpoints of before fit: the same names, also of a layer that torch made orthogonal itself."""
    layer = build(method, sizes).eval()
    if isinstance(layer.parametrizations.weight[0], Trivialised):
        theirs = parametrizations.orthogonal(
            nn.Linear(*sizes), orthogonal_map={"exp": "matrix_exp"}.get(method, method)
        )
        theirs.load_state_dict(layer.state_dict())
        torch.testing.assert_close(theirs.weight, layer.weight, rtol=0, atol=0)
    plain = export_plain(layer).model
    torch.testing.assert_close(plain.weight, layer.weight, rtol=0, atol=0)

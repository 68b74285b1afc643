"""`lipschitz` of modules with a forward of their own: followed, parts that are known stay whole, composed along the graph."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdplip.errors import RefusedModule, UnknownModule
from sdplip.nn import CayleyConv2d, Householder, LastLayerNormalised, lipschitz, pairwise_lipschitz
from sdplip.nn.bound import Bound
from sdplip.robustness.certification import certify_accuracy
from tests.torch_modules import (
    BasicBlock,
    Forward,
    Graded,
    Mixer,
    ResNet,
    Siamese,
    UNet,
    modules,
    ours,
    settled,
)


class Chained(nn.Module):
    """The children of an `nn.Sequential`, called one after another."""

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        self.layers = nn.ModuleList(model)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


NETWORKS = [
    pytest.param(make, shape, id=name) for name, make, shape in ours() if isinstance(make(), nn.Sequential)
]
EVERY = [
    pytest.param(make, shape, id=name)
    for name, make, shape in modules()
    if name not in ("scripted", "compiled", "out")
]


def built(make) -> nn.Module:
    torch.manual_seed(0)
    return settled(make())


@pytest.mark.parametrize(("make", "shape"), NETWORKS)
def test_a_forward_of_known_layers_has_the_bound_of_their_chain(make, shape):
    model = built(make)
    assert lipschitz(Chained(model), input_shape=shape).value == lipschitz(model, input_shape=shape).value


@pytest.mark.parametrize(("make", "shape"), EVERY)
def test_no_jacobian_is_longer(make, shape):
    module = built(make).double()
    bound = lipschitz(Forward(lambda m, x: m.inner(x), inner=module), input_shape=shape).value
    generator = torch.Generator().manual_seed(2)
    for scale in (0.1, 1.0, 10.0):
        x = scale * torch.randn(1, *shape, generator=generator, dtype=torch.float64)
        J = torch.autograd.functional.jacobian(lambda x: module(x.clone()), x)
        assert torch.linalg.matrix_norm(J.reshape(-1, x.numel()), 2) <= bound * (1 + 1e-9)  # pyright: ignore


@pytest.mark.parametrize(
    ("make", "shape"),
    [(ResNet, (3, 8, 8)), (lambda: Mixer(3, 4), (3, 4)), (UNet, (1, 4, 4)), (Siamese, (6,))],
)
def test_the_tree_names_modules_and_lines(make, shape):
    bound = lipschitz(built(make), input_shape=shape)
    text = str(bound)
    assert "torch_modules.py:" in text and "branches" in text
    assert "its forward, followed on inputs of shape" in text


def test_a_residual_block_by_hand():
    block = Forward(lambda m, x: x + 2 * m.a(x), a=nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        block.a.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))  # pyright: ignore
    assert lipschitz(block, input_shape=(2,)).value == pytest.approx(7)
    apart = Forward(lambda m, x: torch.cat([m.a(x[:, :1]), x[:, 1:]], 1), a=nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        apart.a.weight.fill_(3.0)  # pyright: ignore
    assert lipschitz(apart, input_shape=(2,)).value == pytest.approx(10**0.5, rel=1e-12)


def test_sums_of_linear_parts_are_one_matrix():
    W = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    block = Forward(lambda _, x: x - F.linear(x, W.to(x.dtype)))
    assert lipschitz(block, input_shape=(2,)).value == pytest.approx(2, rel=1e-9)


def test_without_a_shape_the_remedy_is_named():
    with pytest.raises(UnknownModule, match="input_shape="):
        lipschitz(built(ResNet))
    with pytest.raises(UnknownModule, match=r"`1` \(BasicBlock\).*input_shape="):
        lipschitz(nn.Sequential(nn.ReLU(), BasicBlock(2, 2, 1)))


def test_a_registered_rule_is_asked():
    class Mine(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * torch.special.i0e(x)

    @lipschitz.register(Mine)
    def _(module, context):  # noqa: ARG001
        return Bound(2.0, "twice a function of slope below 1")

    outer = Forward(lambda m, x: m.a(m.a(x)), a=Mine())
    assert lipschitz(outer, input_shape=(3,)).value == 4


def test_subclasses_with_another_forward_are_followed():
    class Shifted(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(3 * input)

    module = Shifted(3, 2)
    plain = nn.Linear(3, 2)
    plain.load_state_dict(module.state_dict())
    assert lipschitz(module, input_shape=(3,)).value == pytest.approx(3 * lipschitz(plain).value)
    with pytest.raises(RefusedModule, match="input_shape"):
        lipschitz(module)

    class Backwards(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            for module in reversed(self):
                input = module(input)
            return input

    model = Backwards(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 3, bias=False))
    assert pairwise_lipschitz(model, input_shape=(3,)).values.shape == (3, 3)
    head = model[0].weight.detach().double().numpy()
    backbone = lipschitz(model[2]).value
    apart = np.linalg.norm(head[0] - head[1])
    assert pairwise_lipschitz(model, input_shape=(3,)).values[0, 1] == pytest.approx(backbone * apart)


def test_a_forward_that_changes_its_parts_is_refused():
    def forward(m: Forward, x: Tensor) -> Tensor:
        m.a.stride = (2, 2)  # pyright: ignore
        y = m.a(x)
        m.a.stride = (1, 1)  # pyright: ignore
        return y

    with pytest.raises(RefusedModule, match="changes what `a` holds"):
        lipschitz(Forward(forward, a=nn.Conv2d(1, 1, 2)).eval(), input_shape=(1, 4, 4))


def test_the_first_refusal_is_told():
    with pytest.raises(RefusedModule, match=r"`a` \(Dropout\).*eval"):
        lipschitz(Forward(lambda m, x: m.a(x), a=nn.Dropout()), input_shape=(3,))


def test_autocast_within_forward_is_followed():
    def forward(m: Forward, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return m.a(x).float()

    module = Forward(forward, a=nn.Linear(3, 3, bias=False))
    with torch.no_grad():
        module.a.weight.fill_(1 + 2.0**-9)  # pyright: ignore  # bfloat16 has no such number
    assert lipschitz(module, input_shape=(3,)).value == pytest.approx(3.0, rel=1e-9)


@pytest.mark.parametrize("head", [nn.Linear(8, 5), LastLayerNormalised(8, 5)])
def test_accuracy_is_certified_with_the_constants_of_pairs(head):
    torch.manual_seed(0)
    model = ResNet()
    model.fc = head  # pyright: ignore
    model = settled(model)
    images, labels = torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2])
    found = certify_accuracy(model, images, labels)
    assert found.rounding == "float64"  # a forward of its own has no proven rounding
    assert found.margin_constant < 2**0.5 * found.bound.value
    with pytest.raises(RefusedModule, match="float64"):
        certify_accuracy(model, images, labels, precision="float32")
    with torch.no_grad():
        assert (found.prediction == model(images).argmax(1).numpy()).all()


def _conv(**options) -> nn.Conv2d:
    return nn.Conv2d(1, 1, 3, padding_mode="circular", **options)


def _changed(module: nn.Module, **attributes) -> nn.Module:
    for name, value in attributes.items():
        setattr(module, name, value)
    return module.eval()


CHANGED = {
    "padding": lambda: _changed(_conv(padding=2), padding=(1, 1)),
    "padding of a layer made circular": lambda: _changed(
        nn.Conv2d(1, 1, 3, padding=2), padding=(1, 1), padding_mode="circular"
    ),
    "dilation": lambda: _changed(_conv(padding="same"), dilation=(2, 2)),
    "made circular": lambda: _changed(nn.Conv2d(1, 1, 3, padding=1), padding_mode="circular"),
    "stride": lambda: _changed(_conv(padding="same"), stride=(2, 2)),
    "statistics": lambda: _changed(nn.InstanceNorm2d(1, track_running_stats=True), track_running_stats=False),
    "statistics of a batch": lambda: _changed(nn.BatchNorm2d(1), track_running_stats=False),
}


def _sparse() -> nn.Module:
    module = nn.Linear(4, 4)
    module.weight = nn.Parameter(2 * torch.eye(4).to_sparse())
    return module


@pytest.mark.parametrize("name", CHANGED)
def test_layers_changed_after_they_were_built_are_right_or_refused(name):
    torch.manual_seed(0)
    module = CHANGED[name]()
    x = 0.01 * torch.randn(1, 1, 6, 6)
    J = torch.autograd.functional.jacobian(module, x).reshape(-1, 36)  # pyright: ignore
    for shape in (None, (1, 6, 6)):
        try:
            bound = lipschitz(module, input_shape=shape).value
        except RefusedModule:
            continue
        assert torch.linalg.matrix_norm(J, 2) <= bound * (1 + 1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.utils.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Graded()),
        lambda: nn.utils.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Third()),
        lambda: Householder(4).half(),
        lambda: Householder(4).bfloat16(),
        lambda: _sparse(),
        lambda: _huge(CayleyConv2d(2, 2, 3, (4, 4))),
    ],
)
def test_weights_that_cannot_be_read_are_refused(make):
    module = make()
    try:
        value = lipschitz(module).value
    except RefusedModule:  # in our words, not in torch's
        return
    assert value >= 1


def _huge(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(module.parameters()).mul_(1e18)
    return module.eval()


class Third(nn.Module):
    """Another weight at every third call."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = [0]

    def forward(self, W: Tensor) -> Tensor:
        self.seen[0] += 1
        return W * (1e6 if self.seen[0] % 3 == 0 else 1.0)


def test_parametrizations_with_a_state_or_a_mode_are_refused():
    for part in (Graded(), Third()):
        linear = nn.utils.parametrize.register_parametrization(nn.Linear(3, 3), "weight", part).eval()
        with pytest.raises(RefusedModule, match="another tensor"):
            lipschitz(linear)

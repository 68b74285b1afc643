"""torch modules as networks: what is read computes what the module computes, and what is not understood is refused."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sdplip.bounds.methods.product import layers_proof
from sdplip.errors import RefusedModule
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal
from sdplip.network.operators import Dense, Transposed
from sdplip.network.read.torch import read_module
from tests.random_modules import RandomModule
from tests.torch_modules import (
    Counter,
    Forward,
    Graded,
    ResNet,
    Siamese,
    modules,
    ours,
    settled,
    statistics_left_behind,
)

ALL = [pytest.param(make, shape, id=name) for name, make, shape in (*modules(), *ours())]


def built(make) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script is deprecated, but people have such modules
        return settled(make())


@pytest.mark.parametrize(("make", "shape"), ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_computes_what_its_module_computes(make, shape, dtype):
    module = built(make).to(dtype)
    network = read_module(module, shape)
    assert network.input_shape == shape
    x = torch.from_numpy(np.random.default_rng(7).standard_normal((5, *shape))).to(dtype)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = module(x.clone()).double()
    assert network.output == 1 or network.shape(network.output) == tuple(y.shape[1:]) or y.ndim == 1
    y = y.reshape(5, -1).numpy()
    found = network(x.double().reshape(5, -1).numpy())
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    assert np.allclose(found, y, rtol=0, atol=tolerance * (1 + abs(y).max()))


def _in_inference(m, x):
    with torch.inference_mode():
        return m.inner(x)


@pytest.mark.parametrize(("make", "shape"), ALL)
def test_in_inference_mode_operations_arrive_whole(make, shape):
    module = Forward(_in_inference, inner=built(make).double())
    plain = read_module(module.inner, shape)  # pyright: ignore
    x = np.random.default_rng(7).standard_normal(plain.inputs)
    y = plain(x)
    assert np.allclose(read_module(module, shape)(x), y, rtol=0, atol=1e-11 * (1 + abs(y).max()))


def test_the_module_stays_as_it_was():
    module = built(ResNet)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    attributes = {path: dict(vars(child)) for path, child in module.named_modules()}
    state = torch.get_rng_state()
    read_module(module, (3, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(dict(vars(child)) == attributes[path] for path, child in module.named_modules())
    assert torch.equal(state, torch.get_rng_state())


def _counted() -> nn.Module:
    linear = nn.Linear(3, 3)
    linear.calls = 0  # pyright: ignore

    def hook(module, _):
        module.calls += 1

    linear.register_forward_pre_hook(hook)
    return linear


def _data_dependent(_, x):
    return x if x[0, 0] > 0 else -x


def _threaded(_, x):
    y = x * 1
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: y.mul_(3)).result()
    return y


def _swallowing(_, x):
    try:
        return x * x
    except Exception:
        return x


def _buffered() -> nn.Module:
    module = Forward(lambda m, x: m.linear(x) + m.seen.add_(1), linear=nn.Linear(3, 3))
    module.register_buffer("seen", torch.zeros(3))
    return module


def _graded() -> nn.Module:
    return nn.utils.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Graded())


REFUSED = {
    "control flow": (lambda: Forward(_data_dependent), (3,), "jumps"),
    "item": (lambda: Forward(lambda _, x: x * x[0, 0].item()), (3,), "look at the numbers"),
    "numpy": (lambda: Forward(lambda _, x: x + torch.from_numpy(x.numpy())), (3,), "numpy"),
    "tolist": (lambda: Forward(lambda _, x: x + torch.tensor(x.tolist())), (3,), "tolist"),
    "product": (lambda: Forward(lambda _, x: x * x.flip(1)), (3,), "two arrays that come from the input"),
    "attention": (lambda: Forward(lambda _, x: F.scaled_dot_product_attention(x, x, x)), (4, 3), "product"),
    "MultiheadAttention": (
        lambda: Forward(lambda m, x: m.a(x, x, x)[0], a=nn.MultiheadAttention(4, 2, batch_first=True)), (3, 4), "product",
    ),
    "square": (lambda: Forward(lambda _, x: x**2), (3,), "finite bound"),
    "unknown": (lambda: Forward(lambda _, x: torch.special.i0(x)), (3,), "`i0`"),
    "comparison": (lambda: Forward(lambda _, x: x * (x > 0)), (3,), "jumps"),
    "positions": (lambda: Forward(lambda _, x: x.gather(1, x.argsort(1))), (3,), "jumps"),
    "sorted positions": (lambda: Forward(lambda _, x: x.gather(1, x.sort(1).indices)), (3,), "jumps"),
    "round": (lambda: Forward(lambda _, x: x.round()), (3,), "jumps"),
    "to int": (lambda: Forward(lambda _, x: x.int().float()), (3,), "rounds"),
    "thread": (lambda: Forward(_threaded), (3,), "another thread"),
    "swallowed": (lambda: Forward(_swallowing), (3,), "two arrays that come from the input"),
    "bits": (lambda: Forward(lambda _, x: x.view(torch.int32).view(torch.float32)), (3,), "bits"),
    "nothing left": (lambda: Forward(lambda _, x: x[:, :0]), (3,), "one row"),
    "LSTM": (lambda: Forward(lambda m, x: m.a(x)[0], a=nn.LSTM(3, 2, batch_first=True)), (4, 3), "product"),
    "batch mean": (lambda: Forward(lambda _, x: x - x.mean(0)), (3,), "batch"),
    "batch flip": (lambda: Forward(lambda _, x: x + x.flip(0)), (3,), "samples of a batch"),
    "first sample": (lambda: Forward(lambda _, x: x - x[:1]), (3,), "samples of a batch"),
    "batch product": (lambda: Forward(lambda _, x: x.new_ones(len(x), len(x)) @ x), (3,), "batch"),
    "batch softmax": (lambda: Forward(lambda _, x: x.sort(0).values), (3,), "batch"),
    "batch size": (lambda: Forward(lambda _, x: x * len(x)), (3,), "size of the batch"),
    "squeeze of the batch": (lambda: Forward(lambda _, x: x.squeeze()), (3,), "row a sample"),
    "training batch norm": (lambda: nn.BatchNorm1d(3), (3,), "eval"),
    "training dropout": (lambda: nn.Dropout(), (3,), "random"),
    "random": (lambda: Forward(lambda _, x: x + torch.randn(3)), (3,), "random"),
    "a buffer that changes": (_buffered, (3,), "seen"),
    "a number that changes": (_counted, (3,), "calls"),
    "every third call": (Counter, (3,), "from call to call"),
    "gradients": (_graded, (3,), "mode of gradients"),
    "gradients of the input": (lambda: Forward(lambda _, x: 2 * x if x.requires_grad else x), (3,), "mode of gradients"),
    "two outputs": (lambda: Forward(lambda _, x: (x, x)), (3,), "tuple"),
    "no batch": (lambda: Forward(lambda _, x: x.sum()), (3,), "batch"),
    "weight from the input": (lambda: Forward(lambda _, x: F.linear(x, x.mean(0, keepdim=True))), (3,), "batch"),
    "statistics left behind": (statistics_left_behind, (2, 3, 3), "running statistics"),
    "another shape": (lambda: nn.Linear(3, 3), (4,), "cannot run"),
    "NaN": (lambda: Forward(lambda _, x: x + float("nan")), (3,), "NaN"),
    "softplus that jumps": (lambda: nn.Softplus(1.0, 2.0), (3,), "threshold"),
    "threshold": (lambda: nn.Threshold(0.1, 0.2), (3,), "jumps"),
    "GLU": (lambda: nn.GLU(), (4,), "product"),
    "RMS norm without eps": (lambda: nn.RMSNorm(3), (3,), "eps"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused(name):
    make, shape, word = REFUSED[name]
    torch.manual_seed(0)
    module = make()
    with pytest.raises(RefusedModule, match=word):
        read_module(module if "training" in name or name == "random" else module.eval(), shape)


def test_a_refusal_names_operation_module_and_line():
    module = Forward(lambda m, x: m.inner(x), inner=Forward(lambda _, x: torch.special.i0(x)))
    with pytest.raises(RefusedModule) as caught:
        read_module(module, (3,))
    message = str(caught.value)
    assert "`i0`" in message and "`inner`" in message
    assert "test_read_torch.py, line" in message and "torch.special.i0(x)" in message


def test_nodes_carry_the_names_of_their_modules():
    names = [node.name for node in read_module(built(ResNet), (3, 8, 8)).nodes]
    assert any("layer1.1.downsample.0" in name for name in names)
    assert any("torch_modules.py" in name for name in names)


def test_a_module_that_is_used_twice_is_read_twice():
    network = read_module(built(Siamese), (6,))
    assert sum(type(node.op).__name__ == "Dense" for node in network.nodes) == 4


def test_the_shape_may_be_left_out_where_the_first_layer_says_it():
    module = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    assert read_module(module).input_shape == (3,)
    with pytest.raises(RefusedModule, match="input_shape"):
        read_module(nn.Conv2d(1, 1, 1))


def test_circular_padding_is_part_of_its_convolution():
    conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
    (node,) = read_module(conv, (2, 4, 5)).nodes
    assert node.op.circular  # pyright: ignore


@pytest.mark.parametrize("seed", range(40))
def test_random_modules_are_read_and_no_jacobian_is_longer(seed):
    module = RandomModule(seed)
    network = read_module(module, module.input_shape)
    x = torch.randn(1, *module.input_shape, dtype=torch.float64)
    with torch.no_grad():
        y = module(x).reshape(-1).numpy()
    assert np.allclose(network(x.reshape(-1).numpy()), y, rtol=1e-9, atol=1e-9 * (1 + abs(y).max())), (
        module.words
    )
    J = torch.autograd.functional.jacobian(lambda x: module(x.clone()), x).reshape(len(y), -1)  # pyright: ignore
    bound = conclude(Goal(network), layers_proof(network))
    assert np.linalg.norm(J.numpy(), 2) <= bound * (1 + 1e-9), module.words


def test_the_transpose_of_a_weight_is_seen_as_one():
    def forward(m: Forward, x):
        v = F.relu(F.linear(x, m.inner.weight, m.inner.bias))
        return x - F.linear(v, m.inner.weight.t())

    network = read_module(built(lambda: Forward(forward, inner=nn.Linear(4, 6))), (4,))
    (up,) = (node.op for node in network.nodes if isinstance(node.op, Dense))
    (down,) = (node.op for node in network.nodes if isinstance(node.op, Transposed))
    assert down.of is up


def test_a_layer_that_is_used_twice_is_one_operator():
    network = read_module(built(Siamese), (6,))
    assert len({id(node.op) for node in network.nodes if isinstance(node.op, Dense)}) == 2

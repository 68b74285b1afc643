"""The constant of softmax attention on a ball: known answers, differences of samples that never exceed it, refusals."""

import pytest
import torch
from torch import Tensor, nn

from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.nn import attention_on_ball, lipschitz

torch.set_num_threads(1)


def attention(
    features: int = 6, heads: int = 2, *, scale: float = 1.0, seed: int = 0
) -> nn.MultiheadAttention:
    torch.manual_seed(seed)
    module = nn.MultiheadAttention(features, heads, batch_first=True).double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0, scale * features**-0.5)
    return module


def run(module: nn.MultiheadAttention, x: Tensor) -> Tensor:
    return module(x, x, x, need_weights=False)[0]


def within(x: Tensor, radius: float) -> Tensor:
    """Every sample, made shorter where it is longer than `radius`."""
    return x * (radius / x.flatten(1).norm(dim=1)).clamp(max=1)[:, None, None]


@pytest.mark.parametrize("tokens", [1, 2, 5])
@pytest.mark.parametrize("radius", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_no_difference_quotient_exceeds_it(tokens, radius, scale):
    """Random pairs, and pairs that climb."""
    module = attention(scale=scale)
    proven = attention_on_ball(module, tokens, radius).value
    x = radius * torch.randn(64, tokens, 6, dtype=torch.double)
    y = (x + 10.0 ** -torch.arange(64)[:, None, None].div(16) * torch.randn_like(x)).requires_grad_()
    x.requires_grad_()
    steepest = 0.0
    for _ in range(15):
        a, b = within(x, radius), within(y, radius)
        quotient = (run(module, a) - run(module, b)).flatten(1).norm(dim=1) / (a - b).flatten(1).norm(dim=1)
        steepest = max(steepest, float(quotient.detach().max()))
        gradients = torch.autograd.grad(quotient.sum(), (x, y))
        with torch.no_grad():
            for v, g in zip((x, y), gradients, strict=True):
                v += 0.3 * radius * g / (g.flatten(1).norm(dim=1)[:, None, None] + 1e-12)
    assert steepest <= proven * (1 + 1e-9)
    if tokens == 1 or (radius == 0.1 and scale == 0.5):
        assert proven <= 4 * steepest  # where shares hardly turn, little is lost


def test_known_answers():
    """Without scores every token gets the mean: |M| exactly. At radius 0 a share is 1 / n. One token sees itself."""
    module = attention(heads=1)
    M = module.out_proj.weight @ module.in_proj_weight[12:].detach()
    norm = float(torch.linalg.matrix_norm(M.detach(), 2))
    assert attention_on_ball(module, 1, 5.0).value == pytest.approx(norm, rel=1e-9)
    assert attention_on_ball(module, 4, 0.0).value == pytest.approx(norm, rel=1e-9)
    with torch.no_grad():
        module.in_proj_weight[:6] = 0
        module.in_proj_bias[:6] = 0
    assert attention_on_ball(module, 4, 5.0).value == pytest.approx(norm, rel=1e-9)
    x = torch.zeros(1, 4, 6, dtype=torch.double)
    J = torch.autograd.functional.jacobian(lambda x: run(module, x), x).reshape(24, 24)
    assert float(torch.linalg.matrix_norm(J, 2)) == pytest.approx(norm, rel=1e-9)


def test_a_scalar_head_by_hand():
    """One feature, W_q = W_k = W_v = W_o = 1, two tokens, R = 1: spread 2, share 1 / (1 + e^-2), sqrt(2 p) + 1/2 * 2."""
    module = nn.MultiheadAttention(1, 1, bias=False).double().eval()
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    share = 1 / (1 + torch.tensor(-2.0, dtype=torch.double).exp())
    expected = float((2 * share).sqrt()) + 1
    found = attention_on_ball(module, 2, 1.0)
    assert found.value == pytest.approx(expected, rel=1e-9) and found.value >= expected
    assert attention_on_ball(module, 2, 1.0, masked=True).value == pytest.approx(2**0.5 + 1, rel=1e-9)
    assert len([*found.certificates()]) == 2


def test_it_grows_with_the_radius_and_behind_a_normalisation_holds_everywhere():
    values = [attention_on_ball(attention(), 3, radius).value for radius in (0.0, 0.5, 1.0, 10.0, 1e3)]
    assert values == sorted(values) and values[-1] > 1e4
    norm, module, n = nn.LayerNorm(6).double().eval(), attention(), 3
    product = lipschitz(norm).value * attention_on_ball(module, n, (n * 6) ** 0.5 * (1 + 1e-9)).value
    x = torch.randn(6, n, 6, dtype=torch.double) * torch.logspace(-2, 2, 6)[:, None, None]
    for sample in x:
        J = torch.autograd.functional.jacobian(lambda x: run(module, norm(x[None])), sample).reshape(18, 18)
        assert float(torch.linalg.matrix_norm(J, 2)) <= product


def test_refusals():
    module = attention()
    with pytest.raises(RefusedModule, match="attention_on_ball"):
        lipschitz(module)
    for wrong in (lambda: attention_on_ball(module, 0, 1.0), lambda: attention_on_ball(module, 2, -1.0)):
        with pytest.raises(InvalidProblem):
            wrong()
    with pytest.raises(InvalidProblem, match="one width"):
        attention_on_ball(nn.MultiheadAttention(4, 2, kdim=3), 2, 1.0)
    with pytest.raises(RefusedModule, match="add_zero_attn"):
        attention_on_ball(nn.MultiheadAttention(4, 2, add_zero_attn=True), 2, 1.0)
    with pytest.raises(RefusedModule, match="eval"):
        attention_on_ball(nn.MultiheadAttention(4, 2, dropout=0.1), 2, 1.0)
    module.register_forward_hook(lambda *_: None)
    with pytest.raises(RefusedModule, match="hook"):
        attention_on_ball(module, 2, 1.0)
    module._forward_hooks.clear()
    with torch.no_grad():
        module.in_proj_weight[0, 0] = torch.nan
    with pytest.raises(RefusedModule, match="NaN"):
        attention_on_ball(module, 2, 1.0)

"""BRONet and LiResNet out of their state dicts, against the forward of the papers written here once more."""

import pytest
import torch
from torch.nn import functional as F

import sdplip
from sdplip.errors import InvalidWeight
from sdplip.importers import load_network, network_of, recertify
from sdplip.nn import export_plain, lipschitz

WIDTH, SIDE, DEPTH, FEATURES, CLASSES, PATCH = 4, 16, 2, 6, 3, 4


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def min_max(x):
    a, b = x.chunk(2, 1)
    return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1)


def identity_plus(g):
    V = g["weights"] * g["gamma"] * len(g["weights"]) ** -0.5
    for k in range(V.shape[2]):
        V[:, k, k] += (torch.arange(9).reshape(3, 3) == 4) if V.ndim == 5 else 1
    return V


def reflect(V, guard):
    S = V.mH @ V
    S = S + guard * S.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] * torch.eye(S.shape[-1])
    return torch.eye(V.shape[-2]) - 2 * V @ torch.linalg.solve(S, V.mH)


def whiten(X):
    S = X @ X.mT
    return torch.linalg.solve_triangular(
        torch.linalg.cholesky(S + 1e-3 * S.diagonal(dim1=-2, dim2=-1).mean() * torch.eye(len(S))),
        X,
        upper=False,
    )


def forward(g, x, reflected):
    x = F.conv2d(x - 0.5, g["stem.0"]["weight"], g["stem.0"]["bias"], stride=2, padding=2)
    x = min_max(x)
    conv = g["conv"]
    for V, b in zip(identity_plus(conv), conv["bias"] - conv["running_mean"], strict=True):
        if reflected:
            n = x.shape[-1] + 2
            Q = reflect(torch.fft.fft2(V, (n, n)).permute(2, 3, 0, 1), 1e-7)
            X = torch.fft.fft2(F.pad(x, (1,) * 4)).permute(2, 3, 1, 0)
            x = torch.fft.ifft2((Q @ X).permute(3, 2, 0, 1)).real[:, :, 1:-1, 1:-1]
        else:
            x = F.conv2d(x, V, padding=1)
        x = min_max(x + b[:, None, None])
    K, W = g["neck"]["kernel"], g["neck"]["weight"]
    K = whiten(K) if len(K) == WIDTH else reflect(K, 1e-5)[:WIDTH]
    W = whiten(W) if len(W) == FEATURES else reflect(W, 1e-5)[:FEATURES]
    x = F.conv2d(x, K.reshape(WIDTH, WIDTH, PATCH, PATCH), stride=PATCH).flatten(1)
    x = min_max(x @ W.T + g["neck"]["bias"])
    for V, b in zip(identity_plus(g["linear"]), g["linear"]["bias"], strict=True):
        x = min_max(x @ (reflect(V, 1e-7) if "identity_half" in g["linear"] else whiten(V)).T + b)
    return x @ F.normalize(g["head"]["weight"], dim=1).T + g["head"]["bias"]


def groups_of(reflected):
    rank, mid = WIDTH // 2, WIDTH * (SIDE // 2 // PATCH) ** 2
    conv = {
        "weights": torch.randn(DEPTH, WIDTH, rank if reflected else WIDTH, 3, 3) / 3,
        "gamma": torch.rand(DEPTH, WIDTH, 1, 1, 1) + 0.5,
        "bias": torch.randn(DEPTH, WIDTH),
        "running_mean": torch.randn(DEPTH, WIDTH),
    }
    conv |= (
        {"I_low": torch.eye(rank)[None, None, None]}
        if reflected
        else {"init_x": torch.ones(1, DEPTH * WIDTH, 8, 8)}
    )
    kernel, weight = torch.randn(WIDTH, WIDTH * PATCH**2), torch.randn(FEATURES, mid)
    linear = {
        "weights": torch.randn(2, FEATURES, FEATURES // 2 if reflected else FEATURES),
        "gamma": torch.ones(2, FEATURES, 1),
    }
    linear |= {"bias": torch.randn(2, FEATURES), "identity": torch.eye(FEATURES)}
    linear |= {"identity_half": torch.eye(FEATURES // 2)} if reflected else {}
    if reflected:
        kernel, weight = torch.randn(WIDTH * PATCH**2, WIDTH), torch.randn(mid, FEATURES)
    return {
        "stem.0": {
            "weight": torch.randn(WIDTH, 3, 5, 5) / 5,
            "bias": torch.randn(WIDTH),
            "init_x": torch.ones(1, 3, SIDE, SIDE),
        },
        "conv": conv,
        "neck": {"kernel": kernel, "weight": weight, "bias": torch.randn(FEATURES)},
        "linear": linear,
        "head": {"weight": torch.randn(CLASSES, FEATURES), "bias": torch.randn(CLASSES)},
    }


def flat(groups):
    return {f"{name}.{leaf}": v for name, g in groups.items() for leaf, v in g.items()}


@pytest.mark.parametrize("reflected", [True, False], ids=["BRONet", "LiResNet"])
def test_bronet(reflected, tmp_path):
    groups = groups_of(reflected)
    checkpoint = {
        "backbone": flat(groups),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2, 2)}}},
        "start_epoch": 3,
    }
    torch.save(checkpoint, tmp_path / "latest_3.pth")
    found = load_network(tmp_path / "latest_3.pth")
    assert found.input_shape == (3, SIDE, SIDE) and found.normalised
    x = torch.rand(5, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(found.model(x), forward(groups, x, reflected), rtol=1e-3, atol=1e-3)
        plain = export_plain(found.model, input_shape=found.input_shape)
        torch.testing.assert_close(plain.model(x), found.model(x), rtol=1e-3, atol=1e-4)
    method = sdplip.bound(found.model, input_shape=found.input_shape, method="product")
    assert method.lower <= method.bound
    proof = recertify(tmp_path / "latest_3.pth")
    network = proof.network
    assert network is not None and list(proof.left_out) == (["backbone.conv.weights"] if reflected else [])
    J = torch.autograd.functional.jacobian(found.model, x[:1]).reshape(CLASSES, -1)
    assert (
        torch.linalg.matrix_norm(J, 2)
        <= network.bound
        == lipschitz(found.model, input_shape=found.input_shape).value
    )
    # the only norms that are estimated from below are those of the stem and of LiResNet's convolutions, on small images
    assert network.claimed * 0.99 <= network.body <= network.claimed * (1.3 if reflected else 2.5)


def test_bronets_that_are_cut_or_another():
    state = {name: v.numpy() for name, v in flat(groups_of(reflected=True)).items()}
    with pytest.raises(InvalidWeight, match=r"conv.gamma"):
        network_of({name: v for name, v in state.items() if name != "conv.gamma"})
    with pytest.raises(InvalidWeight, match="features come to it"):
        network_of(state | {"neck.weight": state["neck.weight"][1:]})
    square = {"conv.weights": state["conv.weights"].repeat(2, 2)}
    with pytest.raises(InvalidWeight, match="Cayley"):
        network_of(state | square)

"""Checkpoints of other libraries: the weights that run are those of the library, and what is proven is not below what they do."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from sdplip.errors import InvalidWeight, UnreadableFile
from sdplip.importers import imported, recertify
from tests.commands import answer, failure, invoke


def jacobian_norm(layer, x):
    J = torch.autograd.functional.jacobian(layer, x).reshape(x.numel(), x.numel())
    return float(torch.linalg.matrix_norm(J, 2))


def sll_dense(W, b, q, eps):
    """The published forward of a matrix, `eps` beside q in the denominator."""

    def layer(x):
        T = (abs(W @ W.mT) * q[None] / (q + eps)[:, None]).sum(1)
        return x - (2 / T * torch.relu(x @ W.mT + b)) @ W

    return layer


@pytest.mark.parametrize("second", [False, True])
def test_published_sll_matrices(second, tmp_path):
    torch.manual_seed(0)
    W, b = torch.randn(7, 5, dtype=torch.float64), 100 * torch.ones(7, dtype=torch.float64)
    q = torch.randn(7, dtype=torch.float64)
    state = {"block.0.weight" if second else "block.0.weights": W, "block.0.bias": b, "block.0.q": q}
    torch.save(state, tmp_path / "sll.pt")
    found = recertify(tmp_path / "sll.pt")
    layer = sll_dense(W, b, q.exp() if second else q.abs(), 0 if second else 1e-6)
    (proof,) = found.layers
    assert found.claimed == 1 and ("second" in proof.layer.layout) == second
    assert jacobian_norm(layer, torch.randn(5, dtype=torch.float64)) <= found.bound  # all units are active
    assert found.bound <= (1 + 1e-12 if second else 1 + 1e-4)


def test_the_epsilon_of_the_first_version(tmp_path):
    """G = I and q = 1e-6: T is half of what it must be, and the layer stretches by 3."""
    np.savez(tmp_path / "sll.npz", **{"a.weights": np.eye(3), "a.bias": np.zeros(3), "a.q": np.full(3, 1e-6)})
    assert recertify(tmp_path / "sll.npz").bound == pytest.approx(3, rel=1e-9)


@pytest.mark.parametrize("version", [1, 2])
def test_published_sll_convolutions(version):
    torch.manual_seed(1)
    K, b = torch.randn(3, 2, 3, 3, dtype=torch.float64), 100 * torch.ones(3, dtype=torch.float64)
    q = torch.randn(3, dtype=torch.float64)
    name = "weights" if version == 1 else "weight"
    state = {
        "conv.kernel": K,
        "conv.bias": b.reshape(1, -1, 1, 1),
        "conv.q": q,
        f"fc.{name}": torch.eye(2),
        "fc.q": torch.ones(2),
    }
    layers, rest = imported({name: array.numpy() for name, array in state.items()})
    A = abs(F.conv2d(K, K, padding=2))
    T = (A * abs(q)[None, :, None, None]).sum((1, 2, 3)) / abs(q) if version == 1 else A.sum((1, 2, 3))
    assert (
        rest == []
        and layers[0].assumed == ()
        and layers[0].layout.endswith(("first version", "second version")[version - 1])
    )
    np.testing.assert_allclose(layers[0].t, T, rtol=1e-12)

    def layer(x):
        h = 2 / T[:, None, None] * torch.relu(F.conv2d(x, K, b, padding=1))
        return x - F.conv_transpose2d(h, K, padding=1)

    from sdplip.importers.recertify import _proven

    assert (
        jacobian_norm(layer, torch.randn(1, 2, 4, 4, dtype=torch.float64))
        <= _proven(layers[0]).bound
        <= 1 + 1e-9
    )


def test_spectral_norm_of_torch(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(spectral_norm(nn.Linear(6, 5)), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        model[0].parametrizations.weight.original *= 3  # so that u and v are of another weight
        model[0].parametrizations.weight.original += torch.randn(5, 6)
    torch.save(model.state_dict(), tmp_path / "net.pth")
    found = recertify(tmp_path / "net.pth")
    (proof,) = found.layers
    effective = model.eval()[0].weight.detach()
    np.testing.assert_allclose(proof.layer.weight.array, effective.numpy(), rtol=1e-5)
    norm = float(torch.linalg.matrix_norm(torch.from_numpy(proof.layer.weight.array).double(), 2))
    assert norm <= found.bound <= norm * (1 + 1e-9) and found.bound > 1.01, "an estimate from below"
    assert list(found.left_out) == ["2.weight"] and found.network is None and "into" in found.note


def test_the_layout_of_torchlip():
    """Kernels are divided by the root of their taps; the weight of the last training step runs."""
    W, K = np.eye(4, dtype=np.float32), np.ones((2, 1, 3, 3), np.float32) / 4
    state = {}
    for name, array in (("0", W), ("1", K)):
        root = f"{name}.parametrizations.weight."
        state |= {f"{root}original": 9 * array, f"{root}0._u": np.ones(len(array), np.float32)}
        state |= {f"{root}0._v": np.ones(array[0].size, np.float32), f"{root}1._w_bjorck": array}
    layers, rest = imported(state)
    assert rest == [] and [layer.layout for layer in layers] == ["deel-torchlip"] * 2
    assert (layers[0].weight.array == W).all()
    np.testing.assert_allclose(layers[1].weight.array, K / 3)


def test_torchlip_itself(tmp_path):
    torchlip = pytest.importorskip("deel.torchlip", reason="needs deel-torchlip")
    torch.manual_seed(0)
    model = torchlip.Sequential(
        torchlip.SpectralConv2d(1, 3, 3, padding=1),
        torchlip.FullSort(),
        nn.Flatten(),
        torchlip.SpectralLinear(48, 5),
    )
    model(torch.randn(2, 1, 4, 4))
    model.eval()
    torch.save(model.state_dict(), tmp_path / "lip.pt")
    found = recertify(tmp_path / "lip.pt")
    for proof, layer in zip(found.layers, (model[0], model[3]), strict=True):
        np.testing.assert_allclose(proof.layer.weight.array, layer.weight.detach().numpy(), rtol=1e-6)
    x = torch.randn(1, 1, 4, 4)
    assert (
        float(torch.linalg.matrix_norm(torch.autograd.functional.jacobian(model, x).reshape(5, 16), 2))
        <= found.bound
    )


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez(
        "sll.npz", **{"a.weights": rng.normal(size=(4, 3)), "a.q": np.full(4, 1e-7), "head.weight": np.eye(3)}
    )
    code, document = answer(invoke, "recertify", "sll.npz")
    assert (code, document["claimed"]) == (0, 1) and document["bound"] == document["layers"][0]["bound"] > 2
    assert [entry["array"] for entry in document["left_out"]] == ["head.weight"]
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = invoke("recertify", "sll.npz")
    assert code == 0 and "1 are not proven" in " ".join(out.split()) and max(map(len, out.splitlines())) <= 80


def test_what_is_of_no_known_layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("plain.npz", **{"fc.weight": np.eye(3), "fc.bias": np.ones(3)})
    with pytest.raises(InvalidWeight, match="lipschitz"):
        recertify("plain.npz")
    np.save("W.npy", np.eye(3))
    with pytest.raises(UnreadableFile, match="state dict"):
        recertify("W.npy")
    np.savez("odd.npz", **{"a.weights": np.eye(3), "a.q": np.ones(2)})
    assert failure(invoke, "recertify", "odd.npz")[0] == 2
    np.savez("nan.npz", **{"a.weights": np.eye(3), "a.q": np.full(3, np.nan)})
    assert failure(invoke, "recertify", "nan.npz")[0] == 2

"""The front door takes what people hold, and says what it cannot take."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import sdplip
from sdplip.errors import InvalidProblem, SdplipError
from sdplip.network import Dense, chain
from sdplip.robustness.graph_module import GraphModule

W = [np.array([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]]), np.array([[1.0, -1.0, 1.0]])]


def module():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.from_numpy(W[0]))
        net[2].weight.copy_(torch.from_numpy(W[1]))
    return net


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "net.npz", **{"fc1.weight": W[0], "fc2.weight": W[1]})
    return tmp_path / "net.npz"


def test_one_network_in_every_form_has_one_bound(path):
    net = module()
    forms = [
        W,
        [torch.from_numpy(w) for w in W],
        [net[0].weight, net[2].weight],
        path,
        str(path),
        net,
        sdplip.read(path),
    ]
    values = [sdplip.bound(form, "product").bound for form in forms]
    assert max(values) - min(values) < 1e-12
    assert sdplip.lipschitz(net).value == pytest.approx(values[0], rel=1e-9)
    assert sdplip.lipschitz(path).value == values[0]
    assert sdplip.bound(W[0]).bound == pytest.approx(np.linalg.norm(W[0], 2), rel=1e-9)
    assert sdplip.bound(chain([Dense(W[0])])).bound == pytest.approx(np.linalg.norm(W[0], 2), rel=1e-9)


@pytest.mark.parametrize("what", [3, None, [1, 2], [], {"a": 1}, object(), b"x", [W[0], "x"]])
def test_what_is_no_network(what):
    for ask in (sdplip.bound, sdplip.lipschitz, sdplip.check, sdplip.compare):
        with pytest.raises(TypeError, match=r"Pass|must hold"):
            ask(what)


def test_arguments_that_have_no_effect_are_refused(path):
    with pytest.raises(TypeError, match="Drop it"):
        sdplip.bound(path, input_shape=(2,))
    with pytest.raises(TypeError, match="Drop it"):
        sdplip.bound(module(), activation="tanh")
    assert sdplip.bound(W, "product", activation="sigmoid").bound < 0.26 * sdplip.bound(W, "product").bound


def test_check_and_compare_take_layers_in_every_form(path):
    forms = [path, str(path), W, module(), sdplip.read(path), W[0], torch.from_numpy(W[0]).requires_grad_()]
    reports = [sdplip.check(form) for form in forms]
    norm = np.linalg.norm(W[0], 2)
    assert all(report.layers[0].certificate.c == pytest.approx(norm, rel=1e-9) for report in reports)
    assert sdplip.compare(W[0]).layers[0].rows


def test_accuracy_of_arrays_tensors_and_loaders():
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    x, y = rng.integers(0, 256, (20, 1, 4, 4), np.uint8), rng.integers(0, 3, 20)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(x / np.float32(255)), torch.from_numpy(y)),
        batch_size=8,
    )
    found = [
        sdplip.certify_accuracy(net, x, y),
        sdplip.certify_accuracy(net, torch.from_numpy(x), torch.from_numpy(y)),
        sdplip.certify_accuracy(net, loader),
    ]
    assert all(np.allclose(f.radius, found[0].radius, atol=1e-6) for f in found) and found[0].radius.max() > 0
    with pytest.raises(InvalidProblem, match=r"limits=\(low, high\)"):
        sdplip.certify_accuracy(net, x / 127.5 - 1, y)
    assert sdplip.certify_accuracy(net, x / 127.5 - 1, y, limits=(-1, 1)).n == 20
    with pytest.raises(TypeError, match="labels"):
        sdplip.certify_accuracy(net, x)
    with pytest.raises(InvalidProblem, match="whole numbers"):
        sdplip.certify_accuracy(net, x, y / 2)
    graph = chain(
        [Dense(net[1].weight.detach().double().numpy(), net[1].bias.detach().double().numpy())], (1, 4, 4)
    )
    by_kernel = sdplip.certify_accuracy(graph, x, y)
    assert np.allclose(by_kernel.radius, found[0].radius, rtol=1e-6)
    again = sdplip.certify_accuracy(GraphModule(graph), x, y)  # its rounding is that of the graph
    assert again.rounding == "proven" and (again.radius == by_kernel.radius).all()


def test_loading(path):
    assert sdplip.load(path)(np.ones(2)).shape == (1,)
    with pytest.raises(SdplipError):
        sdplip.load(path.with_name("none.npz"))


def test_radii_that_are_no_numbers():
    found = sdplip.certify_accuracy(
        nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), np.zeros((2, 1, 2, 2), np.uint8), np.zeros(2, int)
    )
    with pytest.raises(InvalidProblem, match="abc"):
        found.certified("abc")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_certify_takes_parameters(dtype):
    W = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=dtype, requires_grad=True)
    t = torch.tensor([8.0, 8.0])
    numbers = np.array([[1.0, 2.0], [0.5, -1.0]])
    assert sdplip.certify(W, t).c == sdplip.certify(numbers, t.numpy()).c
    K = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3).to(dtype).requires_grad_()
    kernel = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    assert sdplip.certify_convolution(K, t[:1]).c == sdplip.certify_convolution(kernel, t.numpy()[:1]).c


def test_reprs_are_one_short_line():
    rng = np.random.default_rng(0)
    W = rng.standard_normal((30, 40))
    found = sdplip.bound([W, W.T], seconds=1)
    shown = [
        found,
        found.goal,
        found.proof,
        found.goal.network,
        sdplip.certify(W, 100 * np.ones(40)),
        *sdplip.check(W).layers,
    ]
    for thing in shown:
        assert "\n" not in repr(thing) and len(repr(thing)) < 1500, repr(thing)
    assert f"bound={found.bound!r}" in repr(found)
    assert "<30 × 40 float64>" in repr(found.goal.network)


def test_one_version_everywhere():
    """Both wheels read `sdplip/__init__.py`; the citation and the changelog are written by hand."""
    import sdplip

    root = Path(__file__).parents[1]
    for project in ("pyproject.toml", "verify/pyproject.toml"):
        table = tomllib.loads((root / project).read_text())
        assert table["project"]["dynamic"] == ["version"] and "version" not in table["project"]
        assert (
            (root / project)
            .parent.joinpath(table["tool"]["hatch"]["version"]["path"])
            .samefile(sdplip.__file__)
        )
    assert f"\nversion: {sdplip.__version__}\n" in (root / "CITATION.cff").read_text()
    assert f"\n## {sdplip.__version__} - " in (root / "CHANGELOG.md").read_text()

"""Networks out of checkpoints: the forward of the papers, written here once more, and the network that the importer builds agree."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sdplip
from sdplip.errors import InvalidWeight, UnreadableFile
from sdplip.importers import load_network, network_of, recertify
from sdplip.nn import GroupSort, export_plain, lipschitz
from tests.commands import answer, failure, invoke

WIDTH, HIDDEN, UNITS, CLASSES, SIDE = 5, 2, 7, 4, 8
FEATURES = WIDTH * (SIDE // 4) ** 2


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def conv_step(x, K, b, step):
    """One published residual convolution with `step` on its hidden channels."""
    return x - F.conv_transpose2d(step.reshape(-1, 1, 1) * F.relu(F.conv2d(x, K, b, padding=1)), K, padding=1)


def dense_step(x, W, b, step):
    return x - (step * F.relu(x @ W.T + b)) @ W


def autocorrelation(K):
    return F.conv2d(K, K, padding=K.shape[-1] - 1).abs()


def sll_conv(x, g, first):
    A, q = autocorrelation(g["kernel"]), g["q"]
    t = (A * q.abs()[None, :, None, None]).sum((1, 2, 3)) / q.abs() if first else A.sum((1, 2, 3))
    return conv_step(x, g["kernel"], g["bias"].flatten(), 2 / t)


def sll_dense(x, g, first):
    W, q = (g["weights"], g["q"].abs()) if first else (g["weight"], g["q"].exp())
    t = ((W @ W.T).abs() * q).sum(1) / (q + 1e-6 * first)
    return dense_step(x, W, g["bias"].flatten(), 2 / t)


def cpl_step(x, g):
    dense = "weights" in g
    step = (2 / (g["eval_sv_max"] ** 2 + 1e-4)).expand(len(g["bias"]))
    return (
        dense_step(x, g["weights"], g["bias"], step) if dense else conv_step(x, g["kernel"], g["bias"], step)
    )


def published(body, x, convolutions, dense, head):
    """Append channels, convolutions, sums of 4 x 4 pixels over 4, matrices, the last layer with rows of length 1 or none."""
    x = torch.cat([x, torch.zeros(len(x), WIDTH - 3, SIDE, SIDE)], 1)
    for g in convolutions:
        x = body(x, g)
    x = F.avg_pool2d(x, 4, divisor_override=4).flatten(1)
    for g in dense:
        x = body(x, g)
    return x if head is None else x @ F.normalize(head["weight"], dim=1).T + head["bias"]


def norm_of(layer, size):
    """Spectral norm of a linear map of one sample, by its matrix."""
    x = torch.zeros(1, *size)
    J = torch.autograd.functional.jacobian(layer, x)
    return torch.linalg.matrix_norm(J.reshape(-1, x.numel()), 2)


def cpl_groups(kept=True):
    """Two convolutions and two matrices as the published code saves them, before and after its first forward in eval mode."""
    convolutions, dense = [], []
    for _ in range(2):
        K, W = torch.randn(HIDDEN, WIDTH, 3, 3) / 3, torch.randn(UNITS, FEATURES) / 4
        s = norm_of(lambda x, K=K: F.conv2d(x, K, padding=1), (WIDTH, SIDE, SIDE))
        convolutions.append({"kernel": K, "bias": torch.randn(HIDDEN), "eval_sv_max": s[None] * kept})
        convolutions[-1]["pm.u"] = torch.randn(1, WIDTH, SIDE, SIDE)
        dense.append({"weights": W, "bias": torch.randn(UNITS), "alpha": torch.zeros(1)})
        dense[-1] |= {
            "eval_sv_max": torch.linalg.matrix_norm(W, 2)[None] * kept,
            "pm.u": torch.randn(1, FEATURES),
        }
    return convolutions, dense


def sll_groups(first):
    name, shape = ("weights", (UNITS,)) if first else ("weight", (1, UNITS))
    convolutions = [
        {
            "kernel": torch.randn(HIDDEN, WIDTH, 3, 3),
            "bias": torch.randn(1, HIDDEN, 1, 1),
            "q": torch.randn(HIDDEN),
        }
        for _ in range(2)
    ]
    dense = [
        {name: torch.randn(UNITS, FEATURES), "bias": torch.randn(shape), "q": torch.rand(UNITS) + 0.1}
        for _ in range(2)
    ]
    return convolutions, dense


def head_of():
    return {"weight": torch.randn(CLASSES, FEATURES), "bias": torch.randn(CLASSES)}


def blocks_state(convolutions, dense, head, prefix="module.model."):
    """Names of CPL and of SLL's first version: every block twice."""
    state = {}
    for blocks in ("stable_block", "layers_linear"), ("base.1", "base.2"):
        for k, g in enumerate(convolutions):
            state |= {f"{prefix}{blocks[0]}.{k}.{leaf}": v for leaf, v in g.items()}
        for k, g in enumerate(dense):
            state |= {f"{prefix}{blocks[1]}.{k + 1}.{leaf}": v for leaf, v in g.items()}
    return state | ({} if head is None else {f"{prefix}last_last.{leaf}": v for leaf, v in head.items()})


def chain_state(convolutions, dense, head, prefix="module.model.model."):
    """Names of SLL's second version."""
    groups = [None, *convolutions, None, None, *dense, head]
    return {f"{prefix}{k}.{leaf}": v for k, g in enumerate(groups) if g is not None for leaf, v in g.items()}


def agrees(found, expected, x):
    with torch.no_grad():
        torch.testing.assert_close(found.model(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("with_head", [True, False])
def test_cpl(with_head, tmp_path):
    convolutions, dense = cpl_groups()
    head = head_of() if with_head else None
    torch.save(blocks_state(convolutions, dense, head), tmp_path / "best_model.pt")
    found = load_network(tmp_path / "best_model.pt")
    x = torch.rand(6, 3, SIDE, SIDE)
    agrees(found, published(cpl_step, x, convolutions, dense, head), x)
    assert found.input_shape == (3, SIDE, SIDE) and found.normalised is with_head and len(found.layers) == 4
    proof = recertify(tmp_path / "best_model.pt")
    assert len(proof.layers) == 4 and proof.claimed == 1, "each layer stands twice in the file"
    assert 1 - 1e-6 <= proof.bound <= 1 + 1e-3
    # `lipschitz` bounds a convolution by that of large images, whose norm is larger than on these 8 x 8 pixels.
    assert proof.network is not None and proof.bound - 1e-6 <= proof.network.body <= 1.6
    J = torch.autograd.functional.jacobian(found.model, x[:1]).reshape(-1, x[0].numel())
    assert torch.linalg.matrix_norm(J, 2) <= proof.network.bound
    assert (proof.network.bound > proof.network.body) is with_head, "rows of length 1 are no map of norm 1"


def test_cpl_that_was_saved_while_training():
    """No norm is kept: eval mode iterates 100 times from `u`, which for these gaps of singular values has converged."""
    convolutions, dense = cpl_groups(kept=False)
    found = network_of({name: v.numpy() for name, v in blocks_state(convolutions, dense, None).items()})
    for layer, g in zip(found.layers, [*convolutions, *dense], strict=True):
        W, u = g.get("kernel", g.get("weights")), g["pm.u"]
        up = (lambda x, W=W: F.conv2d(x, W, padding=1)) if W.ndim == 4 else (lambda x, W=W: x @ W.T)
        down = (lambda y, W=W: F.conv_transpose2d(y, W, padding=1)) if W.ndim == 4 else (lambda y, W=W: y @ W)
        for _ in range(100):
            v = F.normalize(up(u).flatten(), dim=0).reshape(up(u).shape)
            u = F.normalize(down(v).flatten(), dim=0).reshape(u.shape)
        s = float((up(u) * v).sum())
        np.testing.assert_allclose(layer.t, s * s + 1e-4, rtol=1e-4)
        assert "100 iterations" in layer.assumed[0]


@pytest.mark.parametrize("first", [True, False])
def test_sll(first, tmp_path):
    convolutions, dense = sll_groups(first)
    head, names = head_of(), blocks_state if first else chain_state
    torch.save(
        {"epoch": 3, "model_state_dict": names(convolutions, dense, head)}, tmp_path / "model.ckpt-1.pth"
    )
    found = load_network(tmp_path / "model.ckpt-1.pth")

    def body(x, g):
        return sll_conv(x, g, first) if "kernel" in g else sll_dense(x, g, first)

    x = torch.rand(6, 3, SIDE, SIDE)
    agrees(found, published(body, x, convolutions, dense, head), x)
    proof = recertify(tmp_path / "model.ckpt-1.pth")
    assert (
        proof.network is not None
        and proof.network.body <= 1 + 1e-3
        and proof.left_out.keys() == {next(name for name in proof.left_out if name.endswith("weight"))}
    )


def test_what_takes_the_network():
    """`lipschitz`, `bound`, `export_plain` and `certify_accuracy` take it; the plain network has the same outputs."""
    convolutions, dense = sll_groups(first=False)
    state = {name: v.numpy() for name, v in chain_state(convolutions, dense, None).items()}
    found = network_of(state, classes=CLASSES, mean=(0.5, 0.4, 0.3))
    shape = found.input_shape
    bound = lipschitz(found.model, input_shape=shape).value
    assert 0.99 <= bound <= 1 + 1e-3
    x, y = torch.rand(8, 3, SIDE, SIDE), torch.arange(8) % CLASSES
    plain = export_plain(found.model, input_shape=shape)
    with torch.no_grad():
        torch.testing.assert_close(plain.model(x), found.model(x), rtol=1e-4, atol=1e-5)
    certified = sdplip.certify_accuracy(found.model, x, y)
    assert certified.n == 8
    assert sdplip.bound(found.model, input_shape=shape).bound >= 0.5


def max_min(x):
    """Pairs of neighbouring channels, the larger one first."""
    pairs = x.unflatten(1, (-1, 2))
    return torch.stack([pairs.amax(2), pairs.amin(2)], 2).flatten(1, 2)


def llc_layer(x, g):
    """CPL, SLL or AOL of 1LLC, with its guards."""
    if "parametrizations.weight.original" in g:
        K = g["parametrizations.weight.original"]
        t = autocorrelation(K.transpose(0, 1)).sum((1, 2, 3)) + 1e-6
        p = K.shape[-1] // 2
        return F.conv2d(F.pad(x, (p,) * 4, mode="circular"), K / t.sqrt()[None, :, None, None], g["bias"])
    K, p = g["kernel"], g["kernel"].shape[-1] // 2
    if "q" in g:
        q = g["q"].abs() + 1e-6
        step = 2 / ((autocorrelation(K) * q[None, :, None, None]).sum((1, 2, 3)) / q + 1e-6)
    else:
        u = g["u"]
        for _ in range(100):
            v = F.conv2d(u, K, padding=p)
            v = v / (v.norm() + 1e-12)
            u = F.conv_transpose2d(v, K, padding=p)
            u = u / (u.norm() + 1e-12)
        step = (2 / ((F.conv2d(u, K, padding=p) * v).sum() ** 2 + 1e-6)).expand(len(K))
    y = step.reshape(-1, 1, 1) * F.relu(F.conv2d(x, K, g["bias"], padding=p))
    return x - F.conv_transpose2d(y, K, padding=p)


def llc_groups(kind, width=4, blocks=2, length=2, side=8):
    """Names and arrays of a small network of `blocks` blocks."""
    shapes = {"FirstConv": (width, 1, side)}
    for b in range(blocks):
        taps = 1 if b == blocks - 1 else 3
        for k in range(length):
            shapes[f"Block{b + 1}.{2 * k}"] = (width * 2**b, taps, side // 2**b)
    shapes["ClassificationHead.0"] = (width * 2**blocks, 1, 1)
    groups = {}
    for name, (n, k, size) in shapes.items():
        K = torch.randn(n, n, k, k) / n
        extra = {"CPL": {"u": torch.randn(1, n, size, size)}, "SLL": {"q": torch.randn(n)}, "AOL": {}}[kind]
        leaf = "parametrizations.weight.original" if kind == "AOL" else "kernel"
        groups[name] = {"bias": torch.randn(n), **extra, leaf: K}
    return groups


def llc(groups, x, width=4, blocks=2, length=2):
    x = torch.cat([x, torch.zeros(len(x), width - 3, *x.shape[2:])], 1)
    x = max_min(llc_layer(x, groups["FirstConv"]))
    for b in range(blocks):
        for k in range(length):
            x = max_min(llc_layer(x, groups[f"Block{b + 1}.{2 * k}"]))
        x = F.pixel_unshuffle(x[:, : x.shape[1] // 2], 2)
    return llc_layer(F.adaptive_max_pool2d(x, 1), groups["ClassificationHead.0"]).flatten(1)[:, :CLASSES]


def flat(groups):
    return {f"{name}.{leaf}": v for name, g in groups.items() for leaf, v in g.items()}


@pytest.mark.parametrize("kind", ["CPL", "SLL", "AOL"])
def test_1llc(kind, tmp_path):
    groups = llc_groups(kind)
    torch.save(flat(groups), tmp_path / "model_state_dict.pth")
    found = load_network(tmp_path / "model_state_dict.pth", classes=CLASSES)
    x = torch.rand(6, 3, SIDE, SIDE)
    agrees(found, llc(groups, x), x)
    assert all(layer.layout == f"1LLC: {kind}" for layer in found.layers)
    if kind == "CPL":
        assert found.input_shape == (3, SIDE, SIDE)
    proof = recertify(tmp_path / "model_state_dict.pth")
    assert proof.network is not None and proof.network.body == proof.network.bound and len(proof.layers) == 6
    J = torch.autograd.functional.jacobian(found.model, x[:1]).reshape(CLASSES, -1)
    assert torch.linalg.matrix_norm(J, 2) <= proof.network.bound
    assert proof.network.bound <= (8 if kind == "CPL" else 1 + 1e-4), (
        "CPL's norms come from below and of small images"
    )


def test_torchlip_into_a_plain_network(tmp_path):
    """Kernels are divided by the root of their taps; layers without spectral parts keep their weights."""
    K, W = torch.randn(4, 1, 3, 3) / 3, torch.linalg.qr(torch.randn(36, 5)).Q.T
    state = {"3.bias": torch.randn(5), "0.bias": torch.randn(4)}
    for name, run in (("0", K), ("3", W)):
        root = f"{name}.parametrizations.weight."
        state |= {f"{root}original": 2 * run, f"{root}0._u": torch.ones(len(run))}
        state |= {f"{root}0._v": torch.ones(run[0].numel()), f"{root}1._w_bjorck": run}
    torch.save(state, tmp_path / "lip.pt")
    with pytest.raises(InvalidWeight, match="into"):
        load_network(tmp_path / "lip.pt")
    into = nn.Sequential(nn.Conv2d(1, 4, 3), GroupSort(2), nn.Flatten(), nn.Linear(36, 5))
    found = load_network(tmp_path / "lip.pt", into=into)
    x = torch.rand(3, 1, 5, 5)
    y = F.conv2d(x, K / 3, state["0.bias"]).unflatten(1, (2, 2)).sort(2).values.flatten(1)
    agrees(found, y @ W.T + state["3.bias"], x)
    assert (
        lipschitz(found.model, input_shape=(1, 5, 5)).value
        <= float(np.sqrt((K.numpy() ** 2).sum() * 9) / 3) * 1.1
    )
    strided = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), GroupSort(2), nn.Flatten(), nn.Linear(36, 5))
    with pytest.raises(InvalidWeight, match="stride"):
        load_network(tmp_path / "lip.pt", into=strided)
    with pytest.raises(InvalidWeight, match="lacks"):
        load_network(tmp_path / "lip.pt", into=nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(36, 5)))


def numpy_of(state):
    return {name: v.numpy() for name, v in state.items()}


def test_files_that_are_cut_or_mixed():
    convolutions, dense = sll_groups(first=True)
    state = numpy_of(blocks_state(convolutions, dense, head_of(), prefix=""))
    cut = {name: v for name, v in state.items() if ".0." not in name}
    with pytest.raises(InvalidWeight, match="number 0 should be"):
        network_of(cut)
    mixed = state | {"base.1.0.q": state["base.1.0.q"] + 1}
    with pytest.raises(InvalidWeight, match="two names"):
        network_of(mixed)
    once = {name: v for name, v in state.items() if not name.startswith("base.")}
    assert len(network_of(once).layers) == 4
    with pytest.raises(InvalidWeight, match="bias"):
        network_of(once | {"stable_block.0.bias": np.ones(5, np.float32)})
    with pytest.raises(InvalidWeight, match=r"last_last.weight"):
        network_of(once | {"last_last.weight": np.ones((3, FEATURES + 1), np.float32)})
    with pytest.raises(InvalidWeight, match="features"):
        network_of({name: v for name, v in once.items() if "last" not in name}, classes=FEATURES + 1)
    chain = numpy_of(chain_state(*sll_groups(first=False), head_of()))
    with pytest.raises(InvalidWeight, match="a layer is missing"):
        network_of({name: v for name, v in chain.items() if ".model.6." not in name})
    llc_state = numpy_of(flat(llc_groups("SLL")))
    with pytest.raises(InvalidWeight, match="lacks one of them"):
        network_of({name: v for name, v in llc_state.items() if "Head" not in name})
    with pytest.raises(InvalidWeight, match="Run one image"):
        network_of(
            {
                name: v.numpy()
                for name, v in flat(llc_groups("CPL")).items()
                if not name.endswith("Block1.0.u")
            }
        )


def test_layers_that_are_refused_by_name(tmp_path):
    soc = {"FirstConv.random_conv_filter": np.ones((4, 4, 3, 3)), "FirstConv.correction": np.ones(1)}
    with pytest.raises(InvalidWeight, match="SOC"):
        network_of(soc)
    np.savez(tmp_path / "soc.npz", **soc)
    code, failed = failure(invoke, "recertify", str(tmp_path / "soc.npz"))[:2]
    assert code == 2 and "SOC" in str(failed)
    bro = {
        "conv.weights": np.ones((2, 4, 2, 3, 3)),
        "conv.gamma": np.ones((2, 4, 1, 1, 1)),
        "conv.I_low": np.eye(2),
    }
    with pytest.raises(InvalidWeight, match="BRONet"):
        network_of(bro)


def test_truncated_file(tmp_path):
    path = tmp_path / "best_model.pt"
    torch.save(blocks_state(*cpl_groups(), head_of()), path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UnreadableFile):
        load_network(path)


def test_the_command_prints_the_whole_network(tmp_path, monkeypatch):
    torch.save(blocks_state(*sll_groups(first=True), head_of()), tmp_path / "sll.pth")
    monkeypatch.chdir(tmp_path)
    code, document = answer(invoke, "recertify", "sll.pth")
    whole = document["whole"]
    assert (
        code == 0
        and whole["claimed"] == 1 <= whole["body"] + 1e-6 <= whole["bound"]
        and whole["input_shape"] == [3, 8, 8]
    )
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = invoke("recertify", "sll.pth")
    assert (
        code == 0
        and "before the last layer" in " ".join(out.split())
        and max(map(len, out.splitlines())) <= 80
    )


@pytest.mark.parametrize(
    "names",
    [
        ("parametrizations.weight.original", "parametrizations.weight.0.parametrizations.u.original"),
        ("parametrizations.weight.original", "parametrizations.weight.0.pi.parametrizations.u.original"),
        ("parametrizations.weight.original", "parametrizations.weight.0.q"),
        ("parametrizations.kernel.original", "parametrizations.kernel.0.q", "q"),
    ],
    ids=["OrthoLinear and AOC", "RKO", "AOL", "SLL block"],
)
def test_orthogonium_is_refused_by_name(names):
    """Names as version 0.0.4 saves them."""
    with pytest.raises(InvalidWeight, match=r"`fc`.*orthogonium.*eval"):
        network_of({f"fc.{name}": np.ones((3, 3)) for name in names})


def orthonormalised(W):
    for _ in range(20):
        W = 1.5 * W - 0.5 * W @ W.mT @ W
    return W


def bcop_layer(x, g):
    """H after the 2 x 2 kernels of projections, as convolutions one after the other on a torus."""
    M = g["param_matrices"].double()
    M = orthonormalised(M / torch.linalg.matrix_norm(M, 2)[:, None, None])
    B = M[1:] * g["mask"]
    P = B @ B.mT
    n, y, pairs = len(M[0]), x.double(), len(P) // 2
    if not pairs:
        return (torch.einsum("oi,bihw->bohw", M[0], y) + g["bias"].double()[:, None, None]).float()
    # the last composed kernel holds the matrix of the input at the right, so the transposes run in the order of the file
    y = torch.einsum("io,bihw->bohw", M[0], y)
    for k in range(pairs):
        a, b, one = P[2 * k], P[2 * k + 1], torch.eye(n, dtype=torch.float64)
        z = 0
        for i, A in enumerate((a, one - a)):
            for j, Bj in enumerate((b, one - b)):
                z = z + torch.einsum("io,bihw->bohw", A @ Bj, torch.roll(y, (-i, -j), (2, 3)))
        y = z
    y = torch.roll(y, (pairs // 2 + pairs % 2,) * 2, (2, 3))
    return (y + g["bias"].double()[:, None, None]).float()


def cayley_of(W):
    A, one = W - W.mH, torch.eye(W.shape[-1])
    return torch.linalg.inv(one + A) @ (one - A)


def cayley_layer(x, g):
    """At each frequency, as a correlation around the pixel; the norm is that of half of the spectrum."""
    n, s = x.shape[-1], g["weight"].shape[-1] // 2
    f = torch.fft.fftfreq(n)
    shift = torch.exp(-2j * math.pi * s * (f[:, None] + f[None]))[..., None, None]
    W = shift * torch.fft.fft2(g["weight"], (n, n)).permute(2, 3, 0, 1).conj()
    Q = cayley_of(g["alpha"] * W / W[:, : n // 2 + 1].norm())
    y = torch.fft.ifft2((Q @ torch.fft.fft2(x).permute(2, 3, 1, 0)).permute(3, 2, 0, 1)).real
    return y + g["bias"][:, None, None]


def orthogonal_groups(kind):
    """Two blocks on images of 4 x 4 pixels, and a matrix at the end."""
    groups = {}
    for name, n, k in (
        ("FirstConv", 4, 1),
        ("Block1.0", 4, 3),
        ("Block1.2", 4, 3),
        ("Block2.0", 8, 1),
        ("Block2.2", 8, 1),
    ):
        if kind == "BCOP":
            M = (
                torch.linalg.qr(torch.randn(2 * (k - 1) + 1, n, n)).Q
                + torch.randn(2 * (k - 1) + 1, n, n) / 10
            )
            mask = (torch.arange(n) < n // 2).float().expand(2 * (k - 1), 1, n).clone()
            groups[name] = {"param_matrices": M, "mask": mask, "bias": torch.randn(n)}
        else:
            groups[name] = {
                "weight": torch.randn(n, n, k, k),
                "alpha": torch.tensor(7.0),
                "bias": torch.randn(n),
            }
    groups["ClassificationHead.1"] = {
        "weight": torch.randn(16, 16),
        "alpha": torch.tensor([3.0]),
        "bias": torch.randn(16),
    }
    if kind == "BCOP":
        groups["ClassificationHead.1"] = {
            "weight": torch.linalg.qr(torch.randn(16, 16)).Q * 0.9,
            "bias": torch.randn(16),
        }
    return groups


@pytest.mark.parametrize("kind", ["BCOP", "Cayley"])
def test_orthogonal_layers_of_1llc(kind, tmp_path):
    groups = orthogonal_groups(kind)
    layer = bcop_layer if kind == "BCOP" else cayley_layer
    torch.save(flat(groups), tmp_path / "orthogonal.pth")
    found = load_network(tmp_path / "orthogonal.pth")
    assert found.input_shape == (3, 4, 4)
    x = torch.rand(5, 3, 4, 4)
    y = max_min(layer(torch.cat([x, torch.zeros(5, 1, 4, 4)], 1), groups["FirstConv"]))
    for block in (1, 2):
        for k in (0, 2):
            y = max_min(layer(y, groups[f"Block{block}.{k}"]))
        y = F.pixel_unshuffle(y[:, : y.shape[1] // 2], 2)
    head = groups["ClassificationHead.1"]
    W = (
        orthonormalised(head["weight"])
        if kind == "BCOP"
        else cayley_of(head["alpha"] * head["weight"] / head["weight"].norm())
    )
    agrees(found, F.adaptive_max_pool2d(y, 1).flatten(1) @ W.T + head["bias"], x)
    proof = recertify(tmp_path / "orthogonal.pth")
    assert proof.network is not None and 1 - 1e-3 <= proof.network.bound <= 1 + 1e-3
    assert len(proof.left_out) == (0 if kind == "BCOP" else 5)

"""Rule `rounded`: exported residual layers, whose two weights were rounded on their own, are as good as before but for the rounding."""

import numpy as np
import pytest
import torch

from sdplip.bounds.methods.residual import residual_spans
from sdplip.errors import NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.rules.rounded import adjoint_of
from sdplip.network import Activation, Builder, Convolution, Dense, Diagonal, Network, OnAxis, Sum, Transposed

rng = np.random.default_rng(0)
MAPS = {
    "dense": Dense(rng.normal(size=(6, 4)), rng.normal(size=6)),
    "axis": OnAxis(rng.normal(size=(5, 3)), 2, 2),
    "convolution": Convolution(rng.normal(size=(4, 2, 3)), (6,), (1,), ((1, 1),), (1,)),
    "uneven": Convolution(rng.normal(size=(4, 1, 3, 2)), (4, 5), (1, 1), ((1, 0), (0, 1)), (1, 2), 2),
    "strided": Convolution(rng.normal(size=(4, 2, 3, 3)), (4, 6), (2, 1), ((1, 1), (0, 1)), (1, 1)),
    "circular": Convolution(rng.normal(size=(4, 2, 3)), (6,), (1,), ((1, 1),), (1,), 1, True),
}  # fmt: skip


def down_of(A, step, noise):
    """The way down as export writes it: an ordinary layer where there is one, with a little noise on every number."""
    wide = step.reshape(-1, *(1,) * ((A.K if isinstance(A, Convolution) else A.W).ndim - 1))
    if isinstance(A, Dense):
        return Dense(((A.W * wide) * (1 + noise * rng.normal(size=A.W.shape))).T)
    if isinstance(A, OnAxis):
        return OnAxis((A.W * wide * (1 + noise * rng.normal(size=A.W.shape))).T, A.before, A.after)
    K = A.K * wide * (1 + noise * rng.normal(size=A.K.shape))
    adjoint = Transposed(Convolution(K, A.image_size, A.stride, A.pads, A.dilation, A.groups, A.circular))
    ordinary = adjoint_of(adjoint.of)
    return adjoint if ordinary is None else ordinary


def layer(A, down, h=1.0) -> Network:
    b = Builder((A.inputs,))
    update = b.add(down, b.add(Activation("relu", A.outputs), b.add(A, 0)))
    skip = 0 if h == 1 else b.add(Diagonal(np.full(A.inputs, h)), 0)
    return b.finish(b.add(Sum((1, -1), A.inputs), skip, update))


@pytest.mark.parametrize("kind", list(MAPS))
@pytest.mark.parametrize(
    ("h", "scale", "noise"), [(1.0, 0.1, 2.0**-24), (1.0, 2.0, 1e-3), (0.5, 0.3, 0.0), (1.0, 0.05, 5e-3)]
)
def test_bounds_are_above_all_slopes(kind, h, scale, noise):
    A = MAPS[kind]
    step = scale * rng.uniform(0.1, 1, len(A.K) if isinstance(A, Convolution) else len(A.W))
    down = down_of(A, step, noise)
    network = layer(A, down, h)
    ((start, end, proof),) = residual_spans(network)
    assert (start, end) == (0, network.output)
    bound = conclude(Goal(network), proof)
    M, V = A.dense(), down.dense()
    slopes = [np.linalg.norm(h * np.eye(A.inputs) - V @ (d[:, None] * M), 2)
              for d in (np.zeros(A.outputs), np.ones(A.outputs), *rng.uniform(0, 1, (30, A.outputs)))]  # fmt: skip
    assert bound >= max(slopes) * (1 - 1e-12)
    if noise <= 2.0**-24 and scale < 1:
        assert bound <= max(abs(h), slopes[1], 1) + 1e-4 or kind in ("uneven", "strided", "convolution")


@pytest.mark.parametrize("kind", ["convolution", "uneven", "circular"])
def test_adjoints_of_convolutions(kind):
    other = adjoint_of(MAPS[kind])
    assert isinstance(other, Convolution)
    assert (other.dense() == MAPS[kind].dense().T).all()


@pytest.mark.parametrize(
    "data",
    [{}, {"step": [1.0]}, {"step": [-1.0] * 6}, {"step": ["a"] * 6}, {"step": [np.nan] * 6}, {"step": 1.0}],
)
def test_forged_steps_prove_nothing(data):
    network = layer(MAPS["dense"], down_of(MAPS["dense"], np.ones(6), 0.0))
    ((_, _, proof),) = residual_spans(network)
    with pytest.raises(NotProvable):
        conclude(Goal(network), Proof("rounded", data, proof.parts))
    with pytest.raises(NotProvable):  # any step is valid, but needs the c of its own layer
        conclude(Goal(network), Proof("rounded", {"step": np.full(6, 50.0)}, proof.parts))


def test_another_way_down_is_no_rounding():
    assert residual_spans(layer(MAPS["dense"], Dense(rng.normal(size=(4, 6))))) == []


def test_exported_networks_keep_their_bound():
    from sdplip.network.read.torch.reader import read_module
    from sdplip.nn import ResidualLinear, export_plain, lipschitz

    torch.manual_seed(0)
    model = torch.nn.Sequential(ResidualLinear(12, 20), ResidualLinear(12, 20)).eval()
    plain = export_plain(model).model
    network = read_module(plain, (12,))
    spans = residual_spans(network)
    assert len(spans) == 2
    bounds = [conclude(Goal(network.between(a, b)), proof) for a, b, proof in spans]
    assert np.prod(bounds) <= lipschitz(model).value * (1 + 1e-5)

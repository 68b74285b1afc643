"""Rule `banded`: LipSDP of the unrolled network on a band; no less is proven, data are checked."""

from dataclasses import replace

import numpy as np
import pytest

from sdplip.bounds.choose import bound
from sdplip.bounds.methods import METHODS
from sdplip.bounds.task import Task
from sdplip.errors import NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal
from sdplip.kernel.strip import between_rows, tap_rows
from sdplip.network import Activation, Convolution, Dense, chain


def layers(rng, stride=(1, 1), groups=1):
    first = Convolution(rng.normal(size=(2, 1, 3, 3)), (5, 4), (1, 1), ((1, 1), (1, 1)), (1, 1))
    second = Convolution(
        rng.normal(size=(2, 2 // groups, 3, 2)), (5, 4), stride, ((1, 0), (0, 1)), (1, 1), groups
    )
    return [first, Activation("relu", first.outputs), second]


def networks():
    rng = np.random.default_rng(0)
    strided = layers(rng, (2, 2))
    return {
        "last": chain(layers(rng)),
        "strided": chain(strided),
        "groups": chain(layers(rng, groups=2)),
        "head": chain([*strided, Activation("tanh", strided[-1].outputs), Dense(rng.normal(size=(3, strided[-1].outputs)))]),
        "tail": chain([*strided[:2], Dense(rng.normal(size=(4, strided[1].outputs))), Activation("relu", 4), Dense(rng.normal(size=(2, 4)))]),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(networks()))
def test_the_optimum_of_the_unrolled_network(name):
    network = networks()[name]
    (found,) = METHODS["banded"].propose(Task(network))
    assert conclude(Goal(network), found.proof) == found.bound
    whole = bound(network, "lipsdp-neuron")
    assert whole.bound * (1 - 1e-6) <= found.bound
    if name != "tail":  # there the joint proof is cut in two
        assert (
            found.bound <= whole.bound * 1.005
        )  # the search ends at a gap of 1e-3 of the square, or earlier
    assert found.bound >= whole.lower
    data = dict(found.proof.data)
    key = "c" if "c" in data else "R"
    with pytest.raises(NotProvable):
        conclude(
            Goal(network),
            replace(
                found.proof,
                data={**data, key: np.asarray(data[key]) * 0.99 if key == "R" else data[key] * 0.99},
            ),
        )


def test_rows_of_a_convolution_are_those_of_its_matrix():
    for op in (networks()["strided"].nodes[2].op, networks()["groups"].nodes[2].op):
        assert isinstance(op, Convolution)
        W = np.zeros((len(op.K), *op.output_size, op.channels, *op.image_size))
        blocks = between_rows(op)
        for r, at, tap in tap_rows(op):
            W[:, r, :, :, at] += blocks[tap].reshape(
                len(op.K), op.output_size[1], op.channels, op.image_size[1]
            )
        assert (W.reshape(op.outputs, op.inputs) == op.dense()).all()


@pytest.mark.parametrize(
    "change",
    [
        {"multipliers": []},
        {"multipliers": [[1.0]]},
        {"multipliers": "x"},
        {"c": -1.0},
        {"c": 0.0},
        {"c": float("inf")},
        {"multipliers": [[float("nan")] * 40]},
        {"multipliers": [[0.0] * 40]},
        {"multipliers": [[-1.0] * 40]},
        {"multipliers": [[1e200] * 40]},
    ],
)
def test_data_are_checked(change):
    network = networks()["last"]
    (found,) = METHODS["banded"].propose(Task(network))
    with pytest.raises(NotProvable):
        conclude(Goal(network), replace(found.proof, data={**found.proof.data, **change}))


def test_what_is_no_strip():
    rng = np.random.default_rng(1)
    circular = Convolution(rng.normal(size=(2, 1, 3)), (6,), (1,), ((1, 1),), (1,), 1, True)
    for ops in (
        [Dense(np.eye(3)), Activation("relu", 3), Dense(np.eye(3))],
        [circular, Activation("relu", 12), Dense(np.ones((1, 12)))],
    ):
        assert METHODS["banded"].unfit(chain(ops)) is not None  # type: ignore[arg-type]

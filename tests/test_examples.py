"""The example scripts whose numbers stand in the docs: each is run, and what it says is checked."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from sdplip.weights import read

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_what_the_check_has_caught(monkeypatch):
    """Every published practice is proven to exceed its claim; the SLL factors are those of the erratum's formula."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    found = runpy.run_path(str(EXAMPLES / "caught.py"))["rows"]()
    assert all(1 <= claimed < truth for _, _, claimed, truth in found)
    sll = {setting: truth for what, setting, _, truth in found if what.startswith("SLL")}
    assert sll["all q = 1e-06"] == pytest.approx(3, rel=1e-9)
    assert sll["all q = 1e-07"] == pytest.approx(21, rel=1e-9)
    patches = [truth for what, _, _, truth in found if what.startswith("orthogonal patches")]
    assert patches[-1] == pytest.approx(2, rel=1e-9)  # four reads of a pixel, each of length 1 at most
    slices = [truth for what, _, claimed, truth in found if what.startswith("PLNet") and claimed == 10]
    assert len(slices) == 3 and min(slices) > 17
    ((_, _, claimed, truth),) = (row for row in found if row[0].startswith("LipShiFT"))
    assert claimed == pytest.approx(192, rel=1e-9) and truth == pytest.approx(326.0569, rel=1e-6)
    lben = [truth for what, _, _, truth in found if what.startswith("equilibrium")]
    assert lben == pytest.approx([1 / (1 - s * s) for s in (0.6, 0.9, 0.99)], rel=1e-9)
    assert found[-1][3] == pytest.approx(
        4 / 3, rel=1e-12
    )  # reflect padding: 16 reads where 9 are allowed for


def test_three_formats_hold_the_same_network(tmp_path):
    path = tmp_path / "digits.npz"
    assert runpy.run_path(str(EXAMPLES / "digits_weights.py"))["train"](str(path)) > 0.9
    runpy.run_path(str(EXAMPLES / "formats.py"))["write"](path)
    layers = [read(path.with_suffix(suffix)) for suffix in (".npz", ".safetensors", ".onnx")]
    for others in layers[1:]:
        for ours, other in zip(layers[0], others, strict=True):
            assert ours.name == other.name
            np.testing.assert_array_equal(ours.array, other.array)


def test_looseness_of_one_layer():
    numbers = runpy.run_path(str(EXAMPLES / "looseness.py"))["measure"](
        np.random.default_rng(5).normal(size=(32, 32))
    )
    assert numbers["min_trace"][0] == pytest.approx(1, abs=1e-12)
    assert all(trace >= 1 - 1e-6 for trace, _, _ in numbers.values())
    assert numbers["min_trace"][1] == max(value for _, value, _ in numbers.values())


def test_joint_multipliers_beat_the_others_on_a_deep_chain():
    rng = np.random.default_rng(0)
    weights = [W / np.linalg.norm(W, 2) for W in rng.normal(size=(8, 6, 6))]
    numbers = runpy.run_path(str(EXAMPLES / "depth.py"))["measure"](weights)
    assert numbers["lower"] <= numbers["lipsdp-neuron"] < 0.8 * min(numbers["riccati"], numbers["product"])
    assert numbers["lipsdp-neuron"] <= numbers["riccati-greedy"] * (1 + 1e-6)


def test_families_are_compared_by_the_mean_of_their_seeds(monkeypatch):
    """By hand: 0.5 and 0.6 are 55 ± 5; rows without a test set do not count; who certifies more stands first."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    families = runpy.run_path(str(EXAMPLES / "families.py"))
    task = families["TASKS"]["cifar10"]

    def row(family: str, certified: float, **more) -> dict:
        found = {"clean": 0.7, "certified": dict.fromkeys(task.radii, certified)}
        return {
            "data": "cifar10",
            "family": family,
            "network": "n",
            "lr": 0.02,
            "epochs": 1.0,
            "test": found,
        } | more

    rows = [row("sll", 0.5), row("sll", 0.6), row("BRO", 0.58), row("AOC", 0.9, data="mnist")]
    rows.append({key: value for key, value in row("LipNeXt", 0.9).items() if key != "test"})
    lines = families["table"](rows, task).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| BRO", "| sll"]
    assert "| 70.0 ± 0.0 | 55.0 ± 5.0 |" in lines[1] and lines[1].endswith("| 1.0 | 2 |")


def test_exact_constants_between_their_sides(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["exact_constants.py"])
    runpy.run_path(str(EXAMPLES / "exact_constants.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for line, constant in zip(lines, (40**0.5, 90**0.5), strict=True):
        low, high = (
            float(side) for side in line.split("proven ")[1].split("  (")[0].split(" <= constant <= ")
        )
        assert low <= constant <= high <= low * (1 + 1.1e-6)

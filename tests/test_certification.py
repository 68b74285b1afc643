"""Certification: definitions against per-sample arrays, precisions, scopes, heads, tables, refusals."""

import csv
import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem, MissingDependency, RefusedModule
from sdplip.nn import FirstChannels, export_plain, lipschitz, pairwise_lipschitz
from sdplip.robustness.arithmetic import network_in, pixels, plain_arithmetic
from sdplip.robustness.certification import RADII, certify_accuracy
from sdplip.robustness.forward_error import REACH
from sdplip.robustness.radii import certified_radius, joint_constant
from sdplip.robustness.samples import COLUMNS, write_samples
from tests.trained import FAMILIES, digits, trained


@pytest.fixture(scope="module")
def sample():
    return tuple(part[:60] for part in digits()[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_definitions(family, sample):
    found = certify_accuracy(trained(family), *sample, batch=25)
    network = network_in(trained(family), "float64")
    with plain_arithmetic(), torch.no_grad():
        logits = network(pixels(sample[0], "float64"))
    assert (found.prediction == logits.argmax(-1).numpy()).all() and (found.label == sample[1].numpy()).all()
    assert found.clean == np.mean(found.prediction == found.label)
    plain = certified_radius(logits, pairwise_lipschitz(network, input_shape=(1, 8, 8)))
    assert found.radius == pytest.approx(plain, abs=1e-8) and (found.radius <= plain + 1e-15).all()
    for eps in (0, 0.1, "36/255"):
        inside = [
            r > Fraction(eps) and c for r, c in zip(map(Fraction, found.radius), found.correct, strict=True)
        ]
        assert found.certified(eps) == np.mean(inside)
    assert found.mean_radius == pytest.approx(np.mean(found.radius * found.correct))
    assert found.rounding == "proven"


def test_single_precision_pays_more(sample):
    """exact >= computed in each precision; double loses next to nothing; single is proven too."""
    radius = {
        (precision, scope): certify_accuracy(trained("sll"), *sample, precision=precision, scope=scope).radius
        for precision in ("float32", "float64")
        for scope in ("computed", "exact")
    }
    for precision in ("float32", "float64"):
        assert (radius[precision, "computed"] <= radius[precision, "exact"]).all()
    assert (radius["float32", "computed"] <= radius["float64", "computed"]).all()
    assert radius["float32", "computed"] == pytest.approx(radius["float64", "computed"], abs=0.05)
    assert (radius["float32", "computed"] < radius["float64", "computed"]).any()


def test_single_precision_refuses_what_is_not_proven(sample):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    with pytest.raises(RefusedModule, match=r"Tanh.*no proven rounding error"):
        certify_accuracy(model, *sample, precision="float32")
    assert certify_accuracy(model, *sample).rounding == "float64"


def test_orthogonal_convolutions_are_proven_in_single_precision(sample):
    single, double = (
        certify_accuracy(trained("orthogonal"), *sample, precision=p) for p in ("float32", "float64")
    )
    assert single.rounding == double.rounding == "proven"
    assert (single.radius <= double.radius).all() and single.radius.max() > 0.9 * double.radius.max()


def test_model_is_not_changed(sample):
    model = trained("aol").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    certify_accuracy(model, *sample)
    assert model.training and next(model.parameters()).dtype == torch.float32
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.eval()


def test_network_without_linear_head(sample):
    """The square root of 2 times the bound of the network, for any logits."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), FirstChannels(10))
    found = certify_accuracy(model, *sample)
    assert found.margin_constant == joint_constant(lipschitz(model.double()))
    assert found.radius == pytest.approx(found.margin / found.margin_constant, rel=1e-9)
    assert found.rounding == "proven"


def test_constant_network_is_certified_everywhere(sample):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.arange(10.0))
    found = certify_accuracy(model, *sample)
    assert (found.radius == REACH).all() and found.certified(8) == found.clean


def test_ties_are_not_certified(sample):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.zeros_(model[1].weight), nn.init.zeros_(model[1].bias)
    assert certify_accuracy(model, *sample).certified(0) == 0


def test_radius_strictly_larger(sample):
    """36/255 is no double: a radius equal to the next double above it is larger, one equal to the double below is not."""
    found = certify_accuracy(trained("sll"), *sample)
    near = float(Fraction("36/255"))
    below, above = (
        (near, np.nextafter(near, 1))
        if Fraction(near) <= Fraction(36, 255)
        else (np.nextafter(near, 0), near)
    )
    same = replace(found, prediction=found.label)
    assert replace(same, radius=np.full(60, below)).certified("36/255") == 0
    assert replace(same, radius=np.full(60, above)).certified("36/255") == 1
    assert replace(same, radius=np.full(60, 0.5)).certified(0.5) == 0
    with pytest.raises(InvalidProblem, match="negative"):
        found.certified(-1)


def test_exported_model_is_the_same_up_to_rounding(sample):
    first = certify_accuracy(trained("sll"), *sample)
    second = certify_accuracy(export_plain(trained("sll")).model, *sample)
    assert first.radius == pytest.approx(second.radius, abs=1e-4)


def test_progress_and_json(sample):
    seen = []
    found = certify_accuracy(trained("cpl"), *sample, batch=40, progress=lambda *now: seen.append(now))
    assert seen == [(40, 60), (60, 60)]
    document = found.to_json(file="m", data="digits", empirical={"pgd": {"1": 0.5}})
    keys = {
        "file",
        "data",
        "n",
        "clean",
        "bound",
        "certified",
        "mean_radius",
        "empirical",
        "gaps",
        "seconds",
        "rounding",
    }
    assert keys <= set(json.loads(json.dumps(document, allow_nan=False)))
    assert list(document["certified"]) == list(RADII) and document["certified"]["1"] == found.certified(1)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_tables_keep_every_digit(suffix, sample, tmp_path):
    found = certify_accuracy(trained("sll"), *sample)
    path = tmp_path / f"radii{suffix}"
    write_samples(path, found)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if suffix == ".parquet":
        rows = (
            pytest.importorskip("pyarrow.parquet", reason="needs the extra `data`")
            .read_table(path)
            .to_pylist()
        )
    else:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ","))
    assert tuple(rows[0]) == COLUMNS
    assert [float(row["radius"]) for row in rows] == found.radius.tolist()
    assert [bool(int(row["correct"])) for row in rows] == found.correct.tolist()
    assert [int(row["predict"]) for row in rows] == found.prediction.tolist()


def test_table_refusals(sample, tmp_path, monkeypatch):
    found = certify_accuracy(trained("sll"), *sample)
    with pytest.raises(InvalidProblem, match=r"\.csv"):
        write_samples(tmp_path / "radii.txt", found)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependency, match="pip install pyarrow"):
        write_samples(tmp_path / "radii.parquet", found)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.long), "n > 0"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(3, dtype=torch.long), "2 whole numbers"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), "whole numbers"),
        (torch.full((2, 1, 8, 8), torch.nan), torch.zeros(2, dtype=torch.long), "finite"),
        (
            torch.zeros(2, 3, 9, 9, dtype=torch.uint8),
            torch.zeros(2, dtype=torch.long),
            "cannot run on images",
        ),
    ],
)
def test_data_that_do_not_fit(images, labels, message):
    with pytest.raises(InvalidProblem, match=message):
        certify_accuracy(trained("sll"), images, labels)


def test_half_precision_is_refused(sample):
    with pytest.raises(RefusedModule, match="half precision"):
        certify_accuracy(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).half(), *sample)

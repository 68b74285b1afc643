"""Regression from run file to certificate: tables, losses, networks for rows, intervals and radii that hold."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidConfig, InvalidData, InvalidProblem, RefusedModule
from sdplip.nn import PadChannels, ResidualLinear, Scale, lipschitz
from sdplip.nn.losses import LossContext, MeanAbsolute, MeanSquare
from sdplip.robustness.regression import certify_regression
from sdplip.training import load_run, preset, train
from sdplip.training.build import build_loss, build_model
from sdplip.training.config import override
from sdplip.training.data import as_data_set, load
from sdplip.training.data.rows import of_arrays
from sdplip.training.tables import DataConfig, LossConfig, ModelConfig
from tests.commands import answer, invoke

RNG = np.random.default_rng(0)


def table(rows=40, features=3, outputs=1):
    x = RNG.normal(5, 3, (rows, features))
    return x, x @ RNG.normal(size=(features, outputs)) + 0.1 * RNG.normal(size=(rows, outputs)) + 7


def half(tolerance=1.0, precision="float64"):
    """f(x) = x / 2 at rows 0.4, 2, -2 with targets 0, 0, -1: errors 0.2, 1, 0."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.5)
    rows, targets = torch.tensor([[0.4], [2.0], [-2.0]]).double(), torch.tensor([0.0, 0.0, -1.0]).double()
    return certify_regression(model, rows, targets, tolerance=tolerance, precision=precision)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_radii_are_known_by_hand(precision):
    found = half(precision=precision)
    assert found.rounding == "proven" and found.bound.value == pytest.approx(0.5)
    assert found.error == pytest.approx([0.2, 1.0, 0.0], abs=1e-6)
    assert found.radius == pytest.approx([1.6, 0.0, 2.0], rel=1e-5)
    assert (found.radius <= [1.6, 0.0, 2.0]).all()
    assert found.correct.tolist() == [True, False, True] and found.clean == pytest.approx(2 / 3)
    assert found.certified(1.6) == pytest.approx(1 / 3) and found.certified("15999/10000") == pytest.approx(
        2 / 3
    )
    assert found.interval(2.0) == pytest.approx(1.0, abs=1e-5) and (found.interval(2.0) >= 1).all()


def test_the_share_of_variance_is_known_by_hand():
    """Squared errors 0.04, 1, 0 and variance 2/9; moved by 1, errors grow by 1/2."""
    found = half()
    assert found.mean_square() == pytest.approx(1.04 / 3, rel=1e-5)
    assert found.r2() == pytest.approx(1 - 1.04 * 3 / 2, rel=1e-4) and found.r2() <= 1 - 1.04 * 3 / 2
    assert found.r2(1.0) == pytest.approx(1 - (0.49 + 2.25 + 0.25) * 3 / 2, rel=1e-4)
    assert found.r2(0.5) < found.r2()


@pytest.mark.parametrize("outputs", [1, 3])
def test_no_move_within_a_radius_breaks_the_tolerance(outputs):
    torch.manual_seed(outputs)
    model = nn.Sequential(PadChannels(4), ResidualLinear(8, 20), nn.Linear(8, outputs), Scale(2.0)).double()
    x = torch.randn(60, 4).double()
    y = model(x).detach() + 0.3 * torch.randn(60, outputs).double()
    found = certify_regression(model, x, y, tolerance=1.0)
    worst = x.clone()
    for _ in range(5):
        z = worst.clone().requires_grad_()
        (model(z) - y).norm(dim=1).sum().backward()
        step = z.grad / z.grad.norm(dim=1, keepdim=True).clamp_min(1e-12)
        worst = x + step * torch.from_numpy(found.radius)[:, None] * (1 - 1e-9)
        error = (model(worst) - y).norm(dim=1).detach().numpy()
        assert (error[found.radius > 0] < 1).all()
        moved = (model(worst) - model(x)).detach().abs().amax(1).numpy()
        assert all(moved[k] <= found.interval(found.radius[k])[k] for k in range(60))
    assert (found.radius > 0).sum() > 20


def test_bad_rows_are_refused():
    model, x, y = nn.Linear(2, 1), torch.zeros(4, 2), torch.zeros(4)
    for wrong in ((x, y[:3]), (x[:0], y[:0]), (x * torch.nan, y), (x.long(), y), (x, torch.zeros(4, 2))):
        with pytest.raises(InvalidProblem):
            certify_regression(model, *wrong)
    with pytest.raises(InvalidProblem, match="tolerance"):
        certify_regression(model, x, y, tolerance=0)
    with pytest.raises(RefusedModule):
        certify_regression(nn.Sequential(nn.Linear(2, 1), nn.Hardshrink()), x, y)
    assert certify_regression(nn.Sequential(model, nn.Tanh()), x, y).rounding == "float64"


def test_losses_are_the_means_of_squares_and_absolute_values():
    f, y = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [5.0]])
    assert MeanSquare()(f, y, LossContext()) == 2.5 and MeanAbsolute()(f, y, LossContext()) == 1.5
    built = build_loss(LossConfig("mae", tolerance=0.3))
    assert isinstance(built, MeanAbsolute) and built.tolerance == 0.3
    with pytest.raises(InvalidConfig, match="no effect"):
        LossConfig("mse", margin=1.0)
    with pytest.raises(InvalidConfig, match="shape"):
        MeanSquare()(f, y[:, 0], LossContext())


def test_the_diabetes_table_is_standardised_by_its_training_rows():
    data = load(DataConfig("diabetes", validation=0.0))
    assert (
        data.regression
        and (len(data.train), len(data.test)) == (354, 88)
        and data.classes == ("progression",)
    )
    for values in (data.train.images, data.train.labels):
        assert values.mean(0).abs().max() < 1e-6 and (values.std(0, correction=0) - 1).abs().max() < 1e-5
    assert data.standard is not None and 70 < data.standard.target_std[0] < 85
    held = load(DataConfig("diabetes"))
    assert held.validation is not None and len(held.train) + len(held.validation) == 354


def test_a_table_in_a_file_and_as_arrays_is_the_same(tmp_path):
    x, y = table(outputs=2)
    p, q = table(10, outputs=2)
    np.savez(tmp_path / "t.npz", train_inputs=x, train_targets=y, test_inputs=p, test_targets=q)
    read = load(DataConfig(str(tmp_path / "t.npz"), validation=0.0))
    given = as_data_set((x, y, p, q), DataConfig(validation=0.0))
    assert torch.equal(read.train.images, given.train.images) and torch.equal(
        read.test.labels, given.test.labels
    )
    assert read.standard == given.standard and read.train.labels.shape == (40, 2)
    assert len(as_data_set((x, y[:, 0]), DataConfig(validation=0.0)).test) == 8


def test_tables_that_are_none_are_refused(tmp_path):
    x, y = table()
    np.savez(tmp_path / "t.npz", train_inputs=x, train_targets=y)
    with pytest.raises(InvalidData, match="test_inputs"):
        load(DataConfig(str(tmp_path / "t.npz")))
    constant = x.copy()
    constant[:, 1] = 2
    for wrong, words in (
        ((constant, y), "the same in every"), ((x, y[:5]), "one target a row"), ((x * np.nan, y), "NaN"),
        ((x[:, 0], y), "shape"), ((x, y, x[:, :2], y), "differ"), ((x.astype(str), y), "numbers of shape"),
    ):  # fmt: skip
        with pytest.raises(InvalidData, match=words):
            of_arrays("t", *wrong)


@pytest.mark.parametrize(
    "family", ["sandwich", "equilibrium", "sll", "cpl", "aol", "orthogonal", "multi_step2", "optimal"]
)
def test_networks_for_rows_have_the_constant_that_the_run_file_says(family):
    torch.manual_seed(0)
    config = ModelConfig(family, "table", lipschitz=0.6, width=12)
    model = build_model(config, image_shape=(5,), classes=1, mean=()).eval()
    assert model(torch.zeros(3, 5)).shape == (3, 1)
    assert 0.3 < lipschitz(model, input_shape=(5,)).value <= 0.6 * (1 + 1e-5)


def test_shapes_and_keys_that_do_not_fit_are_refused():
    for config, shape in (
        (ModelConfig("sll", "digits"), (5,)), (ModelConfig("sll", "table"), (1, 8, 8)),
        (ModelConfig("lipkernel", "table"), (5,)), (ModelConfig("sll", "digits", lipschitz=2.0), (1, 8, 8)),
        (ModelConfig("sll", "table", kernel=3), (5,)), (ModelConfig("sll", "table", head="linear"), (5,)),
        (ModelConfig("sandwich", "table", hidden=3), (5,)), (ModelConfig("orthogonal", "table", width=7), (5,)),
        (ModelConfig("sll", "table", width=4), (5,)), (ModelConfig("plain", "table"), (5,)),
    ):  # fmt: skip
        with pytest.raises(InvalidConfig):
            build_model(config, image_shape=shape, classes=1, mean=(0.0,))


QUICK = ("train.epochs=15", "model.width=12", "train.threads=1", "train.device=cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run = tmp_path_factory.mktemp("regression") / "RUN"
    return run, train(override(preset("diabetes"), QUICK), run)


def test_a_run_is_trained_proven_and_loaded_again(made):
    run, summary = made
    assert (
        summary.finished
        and summary.proven_clean is not None
        and summary.proven_certified <= summary.proven_clean
    )
    assert summary.bound <= 0.6 * (1 + 1e-5)
    _, model = load_run(run)
    data = load(DataConfig("diabetes"))
    found = certify_regression(model, data.test.images, data.test.labels)
    assert found.r2() > 0.3 and summary.selected == summary.steps
    held = certify_regression(model, data.validation.images, data.validation.labels)
    assert (held.clean, held.certified(summary.eps)) == (summary.proven_clean, summary.proven_certified)


def test_the_command_line_certifies_it(made, tmp_path):
    run, _ = made
    data = load(DataConfig("diabetes"))
    found = certify_regression(load_run(run)[1], data.test.images, data.test.labels)
    code, out = answer(invoke, "certify", run, "--radii", "0.1,1", "--samples", tmp_path / "rows.csv")
    assert code == 0 and out["n"] == 88 and out["margin_constant"] is None and out["smoothing"] is None
    assert out["clean"] == found.clean and out["certified"] == {
        "0.1": found.certified(0.1),
        "1": found.certified(1),
    }
    said, std = out["regression"], data.standard.target_std[0]
    assert (
        said["r2"] == found.r2() and said["r2_at"]["1"] == found.r2(1.0) < said["r2_at"]["0.1"] < said["r2"]
    )
    assert said["interval"]["1"] == pytest.approx(std * out["bound"], rel=1e-9)
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["radius"]) for row in rows] == found.radius.tolist()
    assert list(rows[0]) == ["idx", "target", "predicted", "error", "radius", "correct"]
    code, text, _ = invoke("certify", run, "--tolerance", "40")
    assert code == 0 and "error below 40" in text and "R2 at least" in text
    code, strict = answer(invoke, "certify", run, "--tolerance", "40")
    assert strict["regression"]["tolerance"] == pytest.approx(40 / std) and strict["clean"] < out["clean"]


@pytest.mark.parametrize(
    "option", [("--attack", "pgd"), ("--smoothing", "0.1"), ("--data", "digits"), ("--scope", "exact")]
)
def test_options_for_classes_are_refused(made, option):
    code, _, err = invoke("certify", made[0], *option)
    assert code == 2 and "is a regression" in err


@pytest.mark.parametrize("command", ["tighten", "report"])
def test_commands_for_classes_say_that_it_is_a_regression(made, command):
    code, _, err = invoke(command, made[0])
    said = " ".join(err.split())
    assert code == 2 and "is a regression" in said and "sdplip certify" in said


def test_other_data_than_those_of_the_run_are_refused(tmp_path):
    x, y = table(60)
    np.savez(tmp_path / "t.npz", train_inputs=x, train_targets=y, test_inputs=x, test_targets=y)
    config = override(
        preset("diabetes"), [*QUICK, "train.epochs=1", "train.batch=20", f"data.name={tmp_path / 't.npz'}"]
    )
    train(config, tmp_path / "RUN")
    assert invoke("certify", tmp_path / "RUN")[0] == 0
    np.savez(tmp_path / "t.npz", train_inputs=x + 1, train_targets=y, test_inputs=x, test_targets=y)
    code, _, err = invoke("certify", tmp_path / "RUN")
    assert code == 2 and "not those" in err


def test_losses_and_data_that_do_not_fit_are_refused_before_anything_begins(tmp_path):
    for base, change in (
        ("diabetes", "loss.name=cross_entropy"), ("digits-sll", "loss.name=mse"), ("diabetes", "data.augment=flip"),
        ("diabetes", "train.precision=bfloat16"),
    ):  # fmt: skip
        with pytest.raises(InvalidConfig):
            train(override(preset(base), [change]), tmp_path / "RUN")
    with pytest.raises(InvalidConfig, match="diabetes come"):
        DataConfig("diabetes", path="somewhere")
    assert not (tmp_path / "RUN").exists()

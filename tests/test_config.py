"""Run files: they round-trip, every error names key, value and remedy, and every preset is valid."""

import dataclasses
import re

import pytest
import torch

from sdplip.errors import InvalidConfig
from sdplip.nn.abstract_scaling import AbstractScaling
from sdplip.nn.bound import pairwise_lipschitz
from sdplip.nn.heads import LastLayerNormalised
from sdplip.training.build import build_model, head_distances
from sdplip.training.config import (
    SECTIONS,
    DataConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
    as_toml,
    override,
    preset,
    preset_names,
    read_config,
    write_config,
)
from sdplip.training.data import augmentation


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid_and_round_trip(name, tmp_path):
    config = preset(name)
    write_config(config, tmp_path / "run.toml")
    assert read_config(tmp_path / "run.toml") == config
    augmentation(config.data.augment)


def test_papers_recipes():
    """Numbers of the authors' code (SLL: offset 3 sqrt(2) / 2, CPL: margin 0.7); the comparison: offset 2 sqrt(2) 36/255."""
    sll, cpl, convnet = preset("cifar10-sll-M"), preset("tiny-imagenet-cpl-XL"), preset("convnet-aol-L")
    assert (sll.model.shape, cpl.model.shape, convnet.model.shape) == ("M", "XL", "convnet-L")
    assert sll.loss.offset == pytest.approx(3 * 2**0.5 / 2) and sll.optimiser.betas == (0.5, 0.9)
    assert cpl.loss.margin == 0.7 and cpl.loss.offset is None and cpl.data.name == "tiny_imagenet"
    assert convnet.loss.offset == pytest.approx(2 * 2**0.5 * 36 / 255, abs=1e-5)


def test_texts_survive_toml(tmp_path):
    path = 'C:\\a "b"\n\té😀\x7f'
    config = RunConfig(data=DataConfig("parquet", path, augment=("crop4", "flip")))
    write_config(config, tmp_path / "run.toml")
    assert read_config(tmp_path / "run.toml") == config


def test_every_key_is_written():
    text = as_toml(RunConfig())
    for section in SECTIONS.values():
        assert all(re.search(rf"^{f.name} = ", text, re.M) for f in dataclasses.fields(section))


def test_overrides():
    config = override(
        preset("digits-sll"),
        [
            "train.epochs=3",
            "optimiser.lr=1",
            "data.augment=crop4,flip",
            "optimiser.betas=0.8,0.99",
            "train.device=cpu",
            "model.width = 8",
            "loss.offset=none",
        ],
    )
    assert (config.train.epochs, config.optimiser.lr, config.train.device) == (3, 1.0, "cpu")
    assert config.data.augment == ("crop4", "flip") and config.optimiser.betas == (0.8, 0.99)
    assert config.model.width == 8 and config.loss.offset is None


def test_a_new_loss_drops_the_keys_of_the_old():
    config = override(preset("digits-sll"), ["loss.name=multi_margin", "loss.margin=0.5"])
    assert config.loss.margin == 0.5 and config.loss.offset is None


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.epoch=3", r"no key `train.epoch`. Did you mean `train.epochs`\?"),
        ("train.lr=3", r"no key `train.lr`. Did you mean `optimiser.lr`\?"),
        ("trian.epochs=3", r"no table `trian`. Did you mean `train`\?"),
        ("train.epochs=0", "`train.epochs` must be at least 1, but is 0"),
        ("train.epochs=2.5", "`train.epochs` must be a whole number, but is 2.5"),
        ("train.epochs=true", "`train.epochs` must be a whole number, but is True"),
        ("optimiser.lr=nan", "`optimiser.lr` must be a finite number, but is nan"),
        ("optimiser.lr=0", "`optimiser.lr` must be above 0"),
        ("data.validation=1", "`data.validation` must be at least 0 and at most 0.9"),
        ("model.family=sl", r"`model.family` must be one of .* but is 'sl'. Did you mean `sll`\?"),
        ("train.compile=yes", "`train.compile` must be true or false, but is 'yes'"),
        ("optimiser.betas=[0.9]", "`optimiser.betas` must have 2 entries"),
        ("data.augment=3", "`data.augment` must be an array"),
        ("loss.margin=1", "`loss.margin` = 1.0 has no effect on the loss 'cross_entropy'"),
        ("optimiser.peak=0.9", "`optimiser.peak` must not lie after"),
        ("train.epochs", "'train.epochs' is no assignment"),
    ],
)
def test_bad_overrides(assignment, message):
    with pytest.raises(InvalidConfig, match=message):
        override(preset("digits-sll"), [assignment])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 3", r"run.toml`: There is no table `epochs`. Did you mean `train.epochs`\?"),
        ("version = 2", "`version` = 2, but this release of sdplip reads version 1"),
        ("[train", "run.toml` is not a TOML file"),
        ("train = 3", "`train` must be a table"),
        ('base = "digits-sl"', r"There is no preset 'digits-sl'. Did you mean `digits-sll`\?"),
        ('sizes = ["S"]', "There is no table `sizes`"),
        ("[train]\nseed = -1", "`train.seed` must be at least 0, but is -1"),
        (b"\xff\xfe", "is not a TOML file"),
    ],
)
def test_bad_files(text, message, tmp_path):
    file = tmp_path / "run.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidConfig, match=message):
        read_config(file)


def test_files_stand_on_presets(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('base = "mnist-cpl"\n[train]\nepochs = 2\n')
    config = read_config(file)
    assert config == override(preset("mnist-cpl"), ["train.epochs=2"])


def test_python_values_are_checked_too():
    with pytest.raises(InvalidConfig, match=r"`train.batch` must be at least 1"):
        TrainConfig(batch=0)
    with pytest.raises(InvalidConfig, match=r"must be a whole number, but is '3'"):
        TrainConfig(epochs="3")  # pyright: ignore[reportArgumentType]


FAMILIES = ("sll", "cpl", "aol", "orthogonal", "aoc", "multi_step2", "multi_step4", "sandwich")
SIZES = {"width": 4, "convolutions": 1, "dense": 1, "hidden": 8, "pool": 2}
SIZES_OF = {name: SIZES | {"hidden_channels": 3} for name in FAMILIES} | {
    "lipkernel": SIZES,
    "equilibrium": {"dense": 2, "hidden": 8},
}


@pytest.mark.parametrize("family", SIZES_OF)
def test_models_of_every_family_have_a_proven_backbone(family):
    torch.manual_seed(0)
    config = ModelConfig(family=family, shape="mnist", **SIZES_OF[family])
    model = build_model(config, image_shape=(1, 4, 4), classes=3, mean=(0.1,)).eval()
    pairs = pairwise_lipschitz(model, input_shape=(1, 4, 4))
    assert pairs.backbone.value <= 1 + 1e-4
    assert model(torch.rand(2, 1, 4, 4)).shape == (2, 3)


def test_std_enters_the_bound():
    config = ModelConfig(std=0.25, convolutions=0, dense=0, width=1, head="linear")
    model = build_model(config, image_shape=(1, 8, 8), classes=2, mean=(0.3,)).eval()
    assert pairwise_lipschitz(model, input_shape=(1, 8, 8)).backbone.value == pytest.approx(4, rel=1e-5)


def test_refresh_and_start_reach_the_layers():
    config = ModelConfig(refresh_every=5, start="tight")
    model = build_model(config, image_shape=(1, 8, 8), classes=10, mean=(0.3,))
    scalings = [module for module in model.modules() if isinstance(module, AbstractScaling)]
    assert scalings and all(scaling.refresh_every == 5 for scaling in scalings)


@pytest.mark.parametrize(
    ("preset_name", "millions"), [("cifar10-sll-S", 41.4), ("tiny-imagenet-cpl-S", 167.5)]
)
def test_papers_sizes(preset_name, millions):
    """Published numbers of parameters; CPL has no q."""
    config = preset(preset_name).model
    side, classes = (64, 200) if "tiny" in preset_name else (32, 10)
    with torch.device("meta"):
        model = build_model(
            dataclasses.replace(config, centre=False), image_shape=(3, side, side), classes=classes, mean=()
        )
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(
    ("config", "image", "message"),
    [
        (ModelConfig(pool=3), (1, 8, 8), "`model.pool` times `model.patch` = 3 must divide"),
        (ModelConfig(width=2), (3, 8, 8), "`model.width` must be at least the 3 channels"),
        (ModelConfig(shape="convnet-XS"), (1, 28, 28), "needs square images of 3 channels"),
        (ModelConfig(shape="convnet-XS", width=8), (3, 32, 32), "`model.width` has no effect"),
        (ModelConfig(shape="liresnet"), (3, 32, 32), "go together"),
        (ModelConfig("sandwich", kernel=2), (1, 8, 8), "must be odd"),
        (ModelConfig("sandwich", "convnet-XS"), (3, 32, 32), "is for the shapes digits"),
        (ModelConfig("lipkernel", kernel=3), (1, 8, 8), "must be even, but is 3"),
        (ModelConfig("lipkernel", hidden=7), (1, 8, 8), "even number of hidden units"),
        (ModelConfig("lipkernel", convolutions=4), (1, 8, 8), "divide the sides of the images by 16"),
        (
            ModelConfig("lipkernel", patch=2),
            (1, 8, 8),
            "`model.patch` has no effect on the family 'lipkernel'",
        ),
        (ModelConfig("equilibrium", width=2), (1, 8, 8), "knows dense, hidden"),
        (ModelConfig("equilibrium", dense=0), (1, 8, 8), "at least one"),
    ],
)
def test_models_that_do_not_fit(config, image, message):
    with pytest.raises(InvalidConfig, match=message):
        build_model(config, image_shape=image, classes=10, mean=(0.5,) * image[0])


def test_unconstrained_and_comparison_networks_end_in_a_linear_head():
    for config in (
        ModelConfig(family="plain", shape="liresnet", width=4, convolutions=1),
        ModelConfig(family="aol", shape="convnet-XS"),
    ):
        model = build_model(config, image_shape=(3, 32, 32), classes=7, mean=(0.5,) * 3).eval()
        assert isinstance(model[-1], torch.nn.Linear)
        with torch.no_grad():
            assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_distances_of_the_head():
    """Rows (3, 4) / 5 and (1, 0) after normalisation: the length of (-0.4, 0.8); the gradient is finite at equal rows."""
    model = torch.nn.Sequential(LastLayerNormalised(2, 3))
    model[0].weight.data = torch.tensor([[3.0, 4.0], [2.0, 0.0], [2.0, 0.0]])
    distances = head_distances(model)
    assert distances[0, 1].item() == pytest.approx(0.8**0.5) and distances[1, 2] == 0
    assert (distances.diagonal() == 0).all()
    distances.sum().backward()
    assert model[0].weight.grad.isfinite().all()

"""`examples/rigour.py`: rigour never adds, and next to nothing is lost in double precision."""

import runpy
from dataclasses import replace
from pathlib import Path

import torch

from sdplip.training.config import RunConfig, write_config
from sdplip.training.data import load
from sdplip.training.run import save_model


def test_what_rigour_costs(tmp_path):
    from sdplip.training.build import build_model

    config = RunConfig()
    config = replace(
        config, model=replace(config.model, convolutions=1, dense=1, hidden=16, width=6, hidden_channels=4)
    )
    data = load(config.data)
    torch.manual_seed(0)
    model = build_model(config.model, image_shape=data.train.shape, classes=10, mean=(0.3,))
    write_config(config, tmp_path / "config.toml")
    save_model(tmp_path, model.state_dict(), data)
    script = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "rigour.py"))
    network, images, labels = script["of_run"](tmp_path)
    found = script["measure"](network, images[:40], labels[:40])
    mean = {row.what: row.mean_radius for row in found.rows}
    assert 0 < mean["float32 proven, computed"] <= mean["float32 proven, exact"] <= mean["float32 naive"]
    assert (
        mean["float32 proven, computed"]
        < mean["float32 by blocks, computed"]
        <= mean["float32 proven, exact"]
    )
    assert mean["float64 proven, computed"] <= mean["float64 proven, exact"] <= mean["float64 naive"]
    assert (
        mean["float16 proven, exact"] > 0.5 * mean["float64 proven, exact"]
        and mean["bfloat16 proven, exact"] >= 0
    )
    assert (
        found.measured <= found.proven["float32"] and found.proven["float64"] < 1e-8 * found.proven["float32"]
    )

"""`benchmarks/files.py` on files made here: bounded, refused, with a geometry file beside it, and going on where it stopped."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "files.py"


def run(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="the script forks")
def test_each_file_is_a_line(tmp_path, monkeypatch, capsys):
    folder, rows = tmp_path / "nets", tmp_path / "rows.jsonl"
    folder.mkdir()
    np.savez(folder / "a.npz", W1=np.eye(3), W2=2 * np.eye(3))
    np.savez(folder / "conv.npz", **{"conv.weight": np.ones((1, 1, 3, 3)), "fc.weight": np.ones((2, 16))})
    (folder / "conv.npz.toml").write_text("image_size = 4\n")
    (folder / "d.npz").write_bytes(b"PK")
    asked = (str(folder), "--method", "product", "--out", str(rows))
    out = run(monkeypatch, capsys, *asked)
    assert "| a.npz | weights, 3 inputs, 3 nodes | product | 2.00000" in out
    assert "| conv.npz | weights, 16 inputs, 3 nodes | product | " in out
    assert "| d.npz | refused: " in out and "2 of 3 files bounded" in out
    kept = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [row["file"] for row in kept] == ["a.npz", "conv.npz", "d.npz"]
    assert kept[0]["found"] == pytest.approx(2, rel=1e-6) and kept[0]["lower"] == pytest.approx(2, rel=1e-6)
    rows.write_text(json.dumps(kept[0]) + "\n")
    again = run(monkeypatch, capsys, *asked, "--resume", "--families")
    assert "| a.npz | weights" not in again and "| d.npz | refused" in again
    assert "2 of 3 files bounded" in again and "| a.npz | 1 of 1 | product | 1 | " in again

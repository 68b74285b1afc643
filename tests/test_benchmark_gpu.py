"""`benchmarks/gpu.py`, which has to run at the first attempt on a machine that is lent for minutes: its rehearsal on the CPU."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.py"


def test_rehearsal(tmp_path):
    out = tmp_path / "tiny.json"
    stages = ["rounding", "throughput", "training", "solvers", "layers"]  # the tests are these tests
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--device", "cpu", "--tiny", "--out", str(out), "--only", *stages],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert set(found) == {"machine", *stages}
    assert 0 < found["rounding"]["convolution"]["true / proven"] < 1
    assert found["rounding"]["linear"]["repeats exactly"] is True
    assert found["throughput"]["cpl-S bfloat16"]["images/s"] > 0
    assert found["throughput"]["shift float32"]["images/s"] > 0
    assert (
        found["training"]["digits-sll"]["proven clean"]
        >= found["training"]["digits-sll"]["certified at 0.1412"]
        >= 0
    )
    assert found["solvers"]["24 cpu"]["status"] == "OPTIMAL" and found["solvers"]["24 cpu"]["gap"] < 1e-6
    assert any("rescaled aol" in line for line in found["layers"]["table"])
    assert "| convolution | " in done.stdout and "| digits-sll | " in done.stdout


def test_what_is_wrong():
    wrong = runpy.run_path(str(SCRIPT))["wrong"]
    good = {
        "machine": {"error": 1},
        "tests": {"exit code": 0},
        "rounding": {"linear": {"true / proven": 0.5}, "seconds": 1},
    }
    assert wrong(good) == []
    assert wrong(good | {"tests": {"exit code": 1}}) == ["tests"]
    assert wrong(good | {"solvers": {"error": "late"}}) == ["solvers"]
    assert wrong(good | {"rounding": {"linear": {"true / proven": 1.5}}}) == ["linear"]
    assert wrong(good | {"rounding": {"linear": {"true / proven": float("nan")}}}) == ["linear"]

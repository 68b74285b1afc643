"""Run by `make wheel` in an environment that holds the wheel and nothing of the checkout."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx  # noqa: F401  (the base install reads graphs and Parquet)
import pyarrow.parquet  # noqa: F401

import sdplip

assert "site-packages" in sdplip.__file__, sdplip.__file__
W = np.array([[3.0, 0.0], [4.0, 5.0]])
certificate = sdplip.certify(W, np.ones(2))
assert certificate.c_lower <= 45**0.5 <= certificate.c < 6.709

with tempfile.TemporaryDirectory() as folder:
    np.save(Path(folder, "W.npy"), W)
    for arguments, expected in (
        (["--help"], 0),
        (["check", "W.npy"], 1),
        (["check", "W.npy", "--scaling", "aol", "--certificate", "C.json"], 0),
        (["verify", "C.json", "W.npy"], 0),
        (["check", "none.npy"], 2),
        (["compare", "W.npy"], 0),
        (["bound", "W.npy"], 0),
        (
            ["train", "--out", "RUN", "--set", "train.steps=2", "--quiet"],
            0,
        ),  # the digits, out of scikit-learn
        (["certify", "RUN", "--limit", "3"], 0),
    ):
        command = [str(Path(sys.executable).parent / "sdplip"), *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == expected, (arguments, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
print(f"sdplip {sdplip.__version__}: the wheel works")

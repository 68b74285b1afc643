"""The path of a GPU without one: whatever can run there, on a simulated device, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = {
    "device": ["tests/simulated/test_device.py", "tests/simulated/test_together.py"],
    "layers": ["tests/test_nn_devices.py", "-k", "sim"],
    "certify": ["tests/simulated/test_certify.py"],
    "training": ["tests/simulated/test_training.py", "-k", "not loss"],
    "losses": ["tests/simulated/test_training.py", "-k", "loss"],
}


@pytest.mark.parametrize("part", PARTS)
def test_on_a_simulated_device(part):
    plugins = ("-p", "tests.simulated.device", "-p", "no:xdist", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, *PARTS[part]],
        cwd=ROOT,
        env={**os.environ, "SDPLIP_SIMULATED": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]

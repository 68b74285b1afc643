"""Certification multiplies in the precision that it speaks of, whatever the process or its environment has set."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import RefusedArithmetic
from sdplip.nn import MaxMin, models, rescaled
from sdplip.nn.ieee import SETTINGS, _setting, check_products, ieee
from sdplip.nn.initialise import initialise
from sdplip.robustness import arithmetic
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.local import local_radii

settings = [name for name in SETTINGS if _setting(name) is not None]
CASES = {
    "older: high": "torch.set_float32_matmul_precision('high')",
    "older: medium": "torch.set_float32_matmul_precision('medium')",
    "older: cudnn": "torch.backends.cudnn.allow_tf32 = True",
    "older: cuda": "torch.backends.cuda.matmul.allow_tf32 = True",
    "all: tf32": "torch.backends.fp32_precision = 'tf32'",
    "all: bf16": "torch.backends.fp32_precision = 'bf16'",
    "all: ieee": "torch.backends.fp32_precision = 'ieee'",
    "cuda: tf32": "torch.backends.cudnn.fp32_precision = 'tf32'",
    "mkldnn: bf16": "torch.backends.mkldnn.set_flags(_fp32_precision='bf16')",
    "cuda.matmul": "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "cudnn.conv": "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
    "mkldnn.matmul": "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
    "mkldnn.conv": "torch.backends.mkldnn.conv.fp32_precision = 'bf16'",
    "mixed": "torch.set_float32_matmul_precision('high'); torch.backends.mkldnn.conv.fp32_precision = 'bf16'",
}
newer = pytest.mark.skipif(not settings, reason="torch before 2.9 has one setting only")


@pytest.fixture
def fresh():
    """The settings of before, afterwards."""
    getter, setter = torch._C._get_fp32_precision_getter, torch._C._set_fp32_precision_setter
    kinds = ("all", "matmul", "conv", "rnn")
    keys = [("generic", "all"), *((backend, kind) for backend in ("cuda", "mkldnn") for kind in kinds)]
    before = [getter(*key) for key in keys]
    yield
    for key, value in zip(keys, before, strict=True):
        setter(*key, value)
    torch.set_float32_matmul_precision("highest")


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10)
    ).eval()  # fmt: skip


def _samples() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (12, 1, 8, 8), dtype=np.uint8)), torch.zeros(
        12, dtype=torch.long
    )


@newer
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("case", CASES)
def test_settings_neither_change_a_certificate_nor_are_changed(case):
    images, labels = _samples()
    expected = certify_accuracy(_network(), images, labels, precision="float32")
    exec(CASES[case])
    before = [_setting(name).fp32_precision for name in settings]
    found = certify_accuracy(_network(), images, labels, precision="float32")
    assert np.array_equal(found.margin, expected.margin) and np.array_equal(found.radius, expected.radius)
    assert [_setting(name).fp32_precision for name in settings] == before
    with ieee():
        assert {_setting(name).fp32_precision for name in settings} == {"ieee"}


@newer
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("family", ["sll", "spectral", "aol"])
def test_layers_whose_weights_are_computed(family):
    """Caches of the layers are filled in the same arithmetic: by certification, and by radii around images after it."""
    images, labels = _samples()
    model = initialise(models.digits(family)).eval()
    expected = certify_accuracy(model, images, labels, precision="float32")
    torch.set_float32_matmul_precision("medium")
    found = certify_accuracy(model, images, labels, precision="float32")
    assert np.array_equal(found.radius, expected.radius)


@newer
@pytest.mark.usefixtures("fresh")
def test_radii_around_images():
    images, labels = _samples()
    torch.manual_seed(0)
    dense = [rescaled(nn.Linear(64, 24), "sll"), MaxMin(), rescaled(nn.Linear(24, 10), "aol")]
    model = nn.Sequential(nn.Flatten(), *dense).eval()
    torch.set_float32_matmul_precision("medium")
    before = certify_accuracy(model, images, labels, precision="float32")
    after = local_radii(model, images, labels, before).after
    assert (after.radius >= before.radius).all() and np.array_equal(after.margin, before.margin)


@pytest.mark.usefixtures("fresh")
def test_exception_restores():
    before = torch.backends.cudnn.enabled
    with pytest.raises(ZeroDivisionError), arithmetic.plain_arithmetic():
        raise ZeroDivisionError
    assert torch.backends.cudnn.enabled == before
    assert [_setting(name).fp32_precision for name in settings] != ["ieee"] * len(settings)


SCRIPT = """
import torch
from sdplip.errors import RefusedArithmetic
from sdplip.robustness.arithmetic import plain_arithmetic
x = torch.rand(4, 32, 16, 16) + 1
kernel = torch.zeros(32, 32, 3, 3)
kernel[range(32), range(32), 1, 1] = 1
try:
    with plain_arithmetic():
        print("exact" if torch.equal(torch.conv2d(x, kernel, padding=1), x) else "rounded")
except RefusedArithmetic as error:
    print("refused", "ONEDNN_DEFAULT_FPMATH_MODE" in str(error))
"""


@pytest.mark.parametrize("mode", ["STRICT", "BF16"])
def test_environment_that_rounds_factors_is_refused(mode):
    """Not every processor has such kernels; where it has, nothing is certified with them."""
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ, "ONEDNN_DEFAULT_FPMATH_MODE": mode}, capture_output=True, text=True
    )  # fmt: skip
    assert out.stdout.strip() in (["exact"] if mode == "STRICT" else ["exact", "refused True"]), out.stderr


def test_reduced_products_are_found(monkeypatch):
    """A library that rounds factors to ten bits, as TF32 does."""
    right = torch.nn.functional.conv2d

    def tf32(x, weight, **options):
        rounded = (
            (x.view(torch.int32) + 0x1000 & ~0x1FFF).view(torch.float32) if x.dtype == torch.float32 else x
        )
        return right(rounded, weight, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", tf32)
    monkeypatch.setattr(
        arithmetic, "check_products", check_products.__wrapped__
    )  # which answers once a process
    with pytest.raises(RefusedArithmetic, match="convolves float32 numbers on cpu in a lower precision"):
        certify_accuracy(_network(), *_samples(), precision="float32")


def test_devices_without_a_model_of_rounding():
    for kind in ("mps", "xpu"):
        with (
            pytest.raises(RefusedArithmetic, match=f"rounding on {kind} is known"),
            arithmetic.plain_arithmetic(torch.device(kind)),
        ):
            pass


@pytest.mark.parametrize("name", ["CUBLAS_EMULATE_SINGLE_PRECISION", "NVIDIA_TF32_OVERRIDE"])
def test_emulated_products_of_a_gpu(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    with (
        pytest.raises(RefusedArithmetic, match=f"`{name}` is set"),
        arithmetic.plain_arithmetic(torch.device("cuda")),
    ):
        pass

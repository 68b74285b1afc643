"""Shared by all tests: one BLAS thread (oversubscription is slow), the folder of local data, no accidental network."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands fold nothing, unless a test says how wide its terminal is: workers of the test run have one of their own."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def benchmark_files() -> Path:
    """The folder of weight files that other tools publish results for; the test is skipped where it is absent."""
    root = os.environ.get("SDPLIP_DATA")
    folder = Path(root, "benchmarks") if root else None
    if folder is None or not folder.is_dir():
        pytest.skip("needs the folder of published weights: set SDPLIP_DATA")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch works with one thread: small solves are many times slower with more."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

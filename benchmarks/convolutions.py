"""Proven norms of convolutions on every image size: time and tightness, and an older checkout in the same run.

`c / c_lower - 1` bounds by how much the proven norm exceeds the true one. Run: `python benchmarks/convolutions.py [--quick]
[--against CHECKOUT]`; BLAS threads follow OPENBLAS_NUM_THREADS. A checkout that takes longer than `--patience` seconds is stopped.
"""

import argparse
import os
import subprocess
import sys
import time

import numpy as np

CASES = {
    "16 x 16, 3 x 3": ((16, 16, 3, 3), {}),
    "64 x 64, 3 x 3": ((64, 64, 3, 3), {}),
    "64 x 64, 3 x 3, stride 2": ((64, 64, 3, 3), {"stride": 2}),
    "64 x 3, 7 x 7, stride 2": ((64, 3, 7, 7), {"stride": 2}),
    "64 x 64, 7 x 7": ((64, 64, 7, 7), {}),
    "depthwise 256, 3 x 3": ((256, 1, 3, 3), {"groups": 256}),
    "32 x 32, 9 taps": ((32, 32, 9), {}),
    "16 x 16, 3 x 3 x 3": ((16, 16, 3, 3, 3), {}),
    "64 x 64, 3 x 3, images 32 x 32": ((64, 64, 3, 3), {"image_size": (32, 32)}),
    "200 x 200, 7 x 7": ((200, 200, 7, 7), {}),
    "512 x 512, 3 x 3": ((512, 512, 3, 3), {}),
    "512 x 512, 3 x 3, stride 2": ((512, 512, 3, 3), {"stride": 2}),
}
QUICK = 9
"""The cases that a quick run keeps."""


def kernel(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Gaussian: the hardest kind, because all frequencies are about equally large."""
    K = np.random.default_rng(len(name)).normal(size=shape)
    return (K / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def measure(number: int) -> str:
    """Seconds of certifying and of checking, and both bounds, of one case in this process."""
    try:
        from sdplip.kernel.condition import convolution_holds
        from sdplip.proposals import certify_convolution
    except ImportError:  # an older checkout
        from sdplip.certificates import (  # pyright: ignore[reportMissingImports]
            certify_convolution,
            convolution_holds,
        )
    from sdplip.geometry import Geometry

    name, (shape, fields) = list(CASES.items())[number]
    K, t = kernel(name, shape), np.ones(shape[1] * fields.get("groups", 1))
    start = time.perf_counter()
    found = certify_convolution(K, t, Geometry(**fields))
    proposed = time.perf_counter() - start
    start = time.perf_counter()
    assert convolution_holds(K, found)
    return f"{proposed} {time.perf_counter() - start} {found.c!r} {found.c_lower!r}"


def run(number: int, checkout: str, patience: float) -> list[float] | None:
    """`measure` in a process of its own, with the package of that checkout; None where it was stopped."""
    environment = os.environ | {"PYTHONPATH": checkout}
    command = [sys.executable, __file__, "--case", str(number)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=patience, check=True
        )
    except subprocess.TimeoutExpired:
        return None
    return list(map(float, done.stdout.split()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="without the widest kernels")
    parser.add_argument("--against", metavar="CHECKOUT", help="an older checkout to compare with")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds after which a case is stopped")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        print(measure(options.case))
        return
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    print(
        f"threads: OPENBLAS_NUM_THREADS={os.environ.get('OPENBLAS_NUM_THREADS', 'unset')}; Gaussian kernels\n"
    )
    old = " before: s | c / c_lower - 1 | new c / old c - 1 |" if options.against else ""
    print(f"| kernel | certify, s | check, s | c / c_lower - 1 |{old}")
    print("|---|---|---|---|" + "---|---|---|" * bool(options.against), flush=True)
    for number, name in enumerate(list(CASES)[: QUICK if options.quick else None]):
        found = run(number, here, options.patience)
        row = f"| {name} | "
        row += (
            "stopped | | |"
            if found is None
            else f"{found[0]:.2f} | {found[1]:.2f} | {found[2] / found[3] - 1:.1e} |"
        )
        if options.against:
            before = run(number, options.against, options.patience)
            if before is None:
                row += f" over {options.patience:g} | | |"
            else:
                change = "" if found is None else f"{found[2] / before[2] - 1:.1e}"
                row += f" {before[0]:.2f} | {before[2] / before[3] - 1:.1e} | {change} |"
        print(row, flush=True)


if __name__ == "__main__":
    main()

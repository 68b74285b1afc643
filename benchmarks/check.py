"""Time and memory of `certify` against one `W.T @ W` and one LAPACK Cholesky in the same run.

Prints the table of docs/benchmarks.md. Run: `python benchmarks/check.py [--quick]`; BLAS threads follow OPENBLAS_NUM_THREADS.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np

from sdplip import scalings
from sdplip.kernel.condition import holds
from sdplip.proposals import certify


def seconds(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the fastest run: other work on the machine changes them least."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def peak_in_matrices(work: Callable[[], object], n: int) -> float:
    """By how much `work` raises the peak memory of this process, in units of n^2 doubles; the sizes must increase."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (8 * n * n)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="only n up to 1024")
    sizes = (256, 512, 1024) if parser.parse_args().quick else (256, 512, 1024, 2048, 4096)
    print(
        f"threads: OPENBLAS_NUM_THREADS={os.environ['OPENBLAS_NUM_THREADS']}; Gaussian W, t by AOL; CPU seconds, best of repeats\n"
    )
    print(
        "| n | W.T @ W + Cholesky, s | certify, s | ratio | verify (`holds`), s | c / c_lower - 1 | peak, n^2 doubles |"
    )
    print("|---|---|---|---|---|---|---|")
    for n in sizes:
        W = np.random.default_rng(n).normal(size=(n, n))
        t = scalings.aol(W)
        peak = peak_in_matrices(lambda W=W, t=t: certify(W, t), n)  # first, before anything larger is held
        certificate = certify(W, t)
        repeats = 21 if n <= 512 else 5 if n <= 1024 else 3
        base = seconds(lambda W=W, t=t: np.linalg.cholesky(np.diag(t) - W.T @ W), repeats)
        ours = seconds(lambda W=W, t=t: certify(W, t), repeats)
        again = seconds(lambda W=W, t=t, c=certificate.c: holds(W, t, c), repeats)
        looseness = certificate.c / certificate.c_lower - 1
        print(
            f"| {n} | {base:.4f} | {ours:.4f} | {ours / base:.2f} | {again:.4f} | {looseness:.1e} | {peak:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

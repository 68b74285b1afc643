"""Real files: how each is read, what is proven of it, and how far below that a Jacobian was found.

    python benchmarks/files.py DIR... [--method auto] [--seconds 60] [--only NAME] [--json OUT.json]

Every file of the folders is read as `sdplip bound FILE` reads it, with the options that `OPTIONS` says a user would have to give.
ONNX files are evaluated beside onnxruntime (or onnx.reference) on random inputs before a bound counts: they must agree to 1e-5.
The last column is a quotient |f(x) - f(y)| / |x - y| of onnxruntime where that is installed, else a Jacobian of what was read.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.arithmetic.decimals import above, below
from sdplip.bounds.choose import bound
from sdplip.errors import SdplipError
from sdplip.network.jacobian import derivative
from sdplip.network.read.file import kind_of, read_file
from sdplip.network.read.understood import Understood

OPTIONS: dict[str, dict[str, Any]] = {
    # What these files of bare weights do not say: kernels with their stride and padding, the size of the image.
    "kw_mnist.pth": {"image_size": [28, 28], "geometry": {"": {"stride": 2, "padding": 1}}},
    "cifar_2c2f.pth": {"image_size": [32, 32], "geometry": {"": {"stride": 2, "padding": 1}}},
    "abc_cifar_marabou_small.pth": {"image_size": [32, 32], "geometry": {"": {"stride": 2, "padding": 0}}},
    "cnn2.pt": {"image_size": [8, 8]},
    "LeNet5ReLU.mat": {"image_size": [28, 28], "geometry": {"": {"padding": 0, "average_pool": 2}}},
    "zero_mask_buffer.pt": {"ignore": ["mask.mask"]},
}
"""By file name: the assumptions that a user states with options."""
AGREE = 1e-5


@dataclass
class Row:
    """What became of a file."""

    file: str
    kind: str = ""
    inputs: int = 0
    nodes: int = 0
    checked: str = ""
    method: str = ""
    bound: float | None = None
    found: float | None = None
    seconds: float = 0.0
    refused: str = ""
    assumed: tuple[str, ...] = ()


def look(path: Path, method: str, seconds: float) -> Row:
    """Read, compare, bound, attack from below."""
    begin, row = time.perf_counter(), Row(path.name)
    try:
        row.kind = kind_of(path)
        options = OPTIONS.get(path.name, {})
        understood = read_file(path, {"kind": row.kind, **options} if options else None, biases=False)
        network = understood.network
        row.inputs, row.nodes, row.checked = network.inputs, len(network.nodes), understood.checked
        row.assumed = understood.sentences
        found = bound(network, method, seconds=seconds)
        row.method, row.bound, row.found = (
            found.method,
            found.bound,
            quotient(path, row.kind, understood, found.lower),
        )
        if row.found > row.bound * (1 + 1e-4):
            raise AssertionError(f"{path}: {row.found} was found, but {row.bound} is 'proven'")
    except SdplipError as error:
        row.refused = " ".join(str(error).split())
    row.seconds = time.perf_counter() - begin
    return row


def quotient(path: Path, kind: str, understood: Understood, lower: float) -> float:
    """A quotient of onnxruntime along the steepest direction that is known, else the Jacobian that was found."""
    if kind != "onnx":
        return lower
    try:
        import onnxruntime as ort
    except ImportError:
        return lower
    network, rng = understood.network, np.random.default_rng(0)
    try:
        session = ort.InferenceSession(_unpacked(path), providers=["CPUExecutionProvider"])
    except Exception:
        return lower
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(session.get_outputs()) != 1:
        return lower
    (given,) = inputs
    dtype = {"tensor(double)": np.float64, "tensor(float)": np.float32}.get(given.type)
    if dtype is None:
        return lower
    shape = [d if isinstance(d, int) and d > 0 else 1 for d in given.shape]
    if int(np.prod(shape)) != network.inputs:
        return lower

    def run(x: np.ndarray) -> np.ndarray:
        return session.run(None, {given.name: x.reshape(shape).astype(dtype)})[0].astype(np.float64).ravel()

    best = 0.0
    for scale in (0.1, 1.0, 10.0):
        x = rng.normal(size=network.inputs) * scale
        point = derivative(network, x)
        v = rng.normal(size=network.inputs)
        for _ in range(8):
            v = point.backward(point.forward(v))
            if not np.linalg.norm(v) > 0:
                break
            v /= np.linalg.norm(v)
        step = 1e-2 * max(1.0, scale) * v
        a, b = (x + step).astype(dtype).astype(np.float64), (x - step).astype(dtype).astype(np.float64)
        if np.linalg.norm(a - b) > 0:
            best = max(best, float(np.linalg.norm(run(a) - run(b)) / np.linalg.norm(a - b)))
    return best


def _unpacked(path: Path) -> str | bytes:
    import gzip

    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else str(path)


def rows(folders: list[Path], only: str, method: str, seconds: float) -> Iterator[Row]:
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix in (".md", ".data", ".json", ".vnnlib") or only not in path.name:
                continue
            yield look(path, method, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| file | read as | method | bound | found | seconds |\n|---|---|---|---|---|---|", flush=True)
    found = list[Row]()
    for row in rows(options.folders, options.only, options.method, options.seconds):
        found.append(row)
        read = f"{row.kind}, {row.inputs} inputs, {row.nodes} nodes"
        if row.refused:
            print(f"| {row.file} | refused: {row.refused[:160]} | | | | {row.seconds:.1f} |", flush=True)
        else:
            assert row.bound is not None and row.found is not None
            print(
                f"| {row.file} | {read} | {row.method} | {above(row.bound, 7)} | {below(row.found, 5)} | {row.seconds:.1f} |",
                flush=True,
            )
    bounded = sum(row.bound is not None for row in found)
    print(
        f"\n{bounded} of {len(found)} files bounded; slowest {max((r.seconds for r in found), default=0.0):.0f} s."
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")
    sys.exit(0)


if __name__ == "__main__":
    main()

"""Real files: how each is read, what is proven of it, and how far below that a Jacobian was found.

    python benchmarks/files.py DIR... [--method auto] [--seconds 60] [--only NAME] [--out ROWS.jsonl [--resume]] [--families]

Every file of the folders is read as `sdplip bound FILE` reads it, with the options that `OPTIONS` says a user would have to give,
or a geometry file FILE.toml beside it, in a process of its own with limits of time and memory. ONNX files are evaluated beside
onnxruntime (or onnx.reference) on random inputs before a bound counts: they must agree to 1e-5. The column "found" is a quotient
|f(x) - f(y)| / |x - y| of onnxruntime, or of torch where the file is no ONNX graph, or the norm of a Jacobian of what was read if that
is larger; no bound may lie below it. `--out` keeps a line a file; with `--resume` those are not looked at again.
"""

import argparse
import fnmatch
import gzip
import json
import multiprocessing
import re
import resource
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.arithmetic.decimals import above, below
from sdplip.bounds.choose import bound
from sdplip.errors import SdplipError
from sdplip.network import Network
from sdplip.network.jacobian import derivative, is_known
from sdplip.network.read.file import kind_of, read_file
from sdplip.network.read.onnx import verify_understanding
from sdplip.network.read.understood import Understood
from sdplip.network.read.weights import Assumptions, read_geometry

HALVED = {"": {"stride": 2, "padding": 1}}
STEM = {"stride": 2, "padding": 3, "max_pool": 2}
OPTIONS: dict[str, dict[str, Any]] = {
    # What these files of bare weights do not say: how kernels move, the size of the image, which activation, what is added.
    "kw_mnist.pth": {"image_size": [28, 28], "geometry": HALVED},
    "cifar_2c2f.pth": {"image_size": [32, 32], "geometry": {"": {"padding": 0}}},
    "abc_cifar_marabou_small.pth": {"image_size": [32, 32], "geometry": {"": {"stride": 2, "padding": 0}}},
    "abc_resnet2b.pth": {
        "image_size": [32, 32],
        "structure": "resnet",
        "geometry": {
            "conv1": {"stride": 2, "padding": 1},
            "layer1.0.conv1": {"stride": 2, "padding": 1},
            "layer1.0.shortcut.0": {"stride": 2, "padding": 0},
        },
    },
    "cnn2.pt": {"image_size": [8, 8]},
    "LeNet5ReLU.mat": {
        "image_size": [28, 28],
        "geometry": {"net_0": {"padding": 2, "max_pool": 2}, "net_3": {"padding": 0, "max_pool": 2}},
    },
    "*FC-R18.*": {"structure": "residual"},
    "C-R18.pt": {"structure": "residual", "image_size": [28, 28], "geometry": {"stem.0.conv": STEM}},
    "glipsdp_versatility_C-R18.mat": {
        "structure": "residual",
        "image_size": [28, 28],
        "geometry": {"stem_0_conv": STEM},
    },
    "glipsdp_versatility_2C2F.mat": {"image_size": [28, 28], "geometry": HALVED},
    "glipsdp_digits_cnn*.mat": {"image_size": [8, 8], "transpose": True, "flatten": "whc"},
    "glipsdp_digits_fnn*.mat": {"transpose": True},
    "glipsdp_mnist_cnn_*.mat": {"image_size": [28, 28], "average": True},
    "maxmin_weights*.mat": {"activation": "maxmin"},
    "maxmin_resweights*.mat": {
        "activation": "maxmin",
        "bare": ["W[0]"],
        "blocks": [{"layers": [f"W[{k}]"], "activation": "behind"} for k in (1, 2, 3)],
    },
    "*GroupSort*_weights.npy": {"activation": "maxmin", "transpose": True},
    "*_weights.npy": {"transpose": True},
    "residual_blocks_state_dict.pt": {"structure": "residual"},
    "zero_mask_buffer.pt": {"ignore": ["mask.mask"]},
}
"""By pattern of file names, the first that fits: the assumptions that a user states with options."""
NO_NETWORK = {
    "*_biases.npy": "the biases of the weights beside them, which no bound over all inputs depends on",
    "glipsdp_digits_published_bounds.mat": "results of another tool",
}
"""By pattern of file names: files that hold no network, and what they hold."""
BESIDE = (".md", ".data", ".json", ".jsonl", ".vnnlib", ".toml")
AGREE = 1e-5
STEPS = 8
POINTS = 4
Run = Callable[[np.ndarray], np.ndarray]


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
    lower: float | None = None
    reading: float = 0.0
    seconds: float = 0.0
    cpu: float = 0.0
    refused: str = ""
    assumed: tuple[str, ...] = ()


def look(path: Path, method: str, seconds: float) -> Row:
    """Read, compare, bound, attack from below."""
    begin, row = time.perf_counter(), Row(path.name)
    try:
        row.kind = kind_of(path)
        options = said_of(path)
        understood = read_file(path, {"kind": row.kind, **options} if options else None, biases=False)
        network = understood.network
        row.inputs, row.nodes, row.checked = network.inputs, len(network.nodes), understood.checked
        row.assumed, row.reading = understood.sentences, time.perf_counter() - begin
        if row.kind == "onnx":
            _check_agreement(path, row)
        found = bound(network, method, seconds=seconds)
        row.method, row.lower, row.seconds = found.method, found.lower, found.seconds
        row.found = quotient(network, run_of(path, row.kind, understood))
        row.bound = found.bound
        if max(row.found, found.lower) > found.bound * (1 + 1e-4):
            raise AssertionError(f"{path}: {row.found}, {found.lower} were found, {found.bound} is 'proven'")
    except SdplipError as error:
        row.refused = " ".join(str(error).split())
    return row


def said_of(path: Path) -> dict[str, Any]:
    """What a user says of a file: by its name in `OPTIONS`, or in a geometry file beside it."""
    options, table = _said(OPTIONS, path.name, {}), path.with_name(f"{path.name}.toml")
    return read_geometry(table, Assumptions.from_json(options)).to_json() if table.exists() else options


def _said(table: dict[str, Any], name: str, otherwise: Any) -> Any:
    return next((said for pattern, said in table.items() if fnmatch.fnmatch(name, pattern)), otherwise)


def _check_agreement(path: Path, row: Row) -> None:
    """Raises:
    AssertionError: the evaluations of the file differ by more than `AGREE`, or there is none.
    """
    compared = verify_understanding(path)
    if not (compared.points and compared.largest <= AGREE):
        raise AssertionError(f"{path}: {compared}")
    row.checked = str(compared)


def run_of(path: Path, kind: str, understood: Understood) -> Run | None:
    """Another evaluation of the file: onnxruntime's of a graph, else torch's of what was read."""
    return _onnxruntime(path, understood.network) if kind == "onnx" else _torch(understood.network)


def _torch(network: Network) -> Run | None:
    if not is_known(network):
        return None
    import torch

    from sdplip.robustness.graph_module import GraphModule

    module = GraphModule(network).double().eval()

    @torch.no_grad()
    def run(x: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(x)[None])[0].numpy()

    return run


def _onnxruntime(path: Path, network: Network) -> Run | None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    packed = path.suffix == ".gz"
    try:
        session = ort.InferenceSession(
            gzip.decompress(path.read_bytes()) if packed else str(path),
            options,
            providers=["CPUExecutionProvider"],
        )
    except Exception:
        return None
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(session.get_outputs()) != 1:
        return None
    (given,) = inputs
    dtype = {"tensor(double)": np.float64, "tensor(float)": np.float32}.get(given.type)
    shape = [d if isinstance(d, int) and d > 0 else 1 for d in given.shape]
    if dtype is None or int(np.prod(shape)) != network.inputs:
        return None

    def run(x: np.ndarray) -> np.ndarray:
        (y,) = session.run(None, {given.name: x.reshape(shape).astype(dtype)})
        return np.asarray(y, np.float64).ravel()

    return run


def quotient(network: Network, run: Run | None) -> float:
    """The largest quotient of `run` along directions that the derivative of the network calls steep."""
    if run is None or not is_known(network):
        return 0.0
    rng, best = np.random.default_rng(0), 0.0
    for scale in (0.1, 1.0, 10.0):
        for _ in range(POINTS):
            x, v = rng.normal(size=network.inputs) * scale, rng.normal(size=network.inputs)
            point = derivative(network, x)
            for _ in range(STEPS):
                v = v / max(float(np.linalg.norm(v)), 1e-300)
                v = point.backward(point.forward(v))
            if not (np.isfinite(v).all() and v.any()):
                continue
            step = 1e-2 * max(1.0, scale) * v / np.linalg.norm(v)
            a, b = (z.astype(np.float32).astype(np.float64) for z in (x + step, x - step))
            best = max(best, float(np.linalg.norm(run(a) - run(b)) / np.linalg.norm(a - b)))
    return best


def limited(path: Path, options: argparse.Namespace) -> Row:
    """`look` in a process of its own, ended where it takes too long or too much memory."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(sender, path, options))
    child.start()
    sender.close()
    begin = time.perf_counter()
    try:
        if not receiver.poll(options.limit):
            return Row(path.name, refused=f"TOO LONG: over {options.limit:.0f} s", seconds=options.limit)
        return receiver.recv()
    except EOFError:
        return Row(path.name, refused="DIED", seconds=time.perf_counter() - begin)
    finally:
        child.terminate()
        child.join()


def _child(sender: Connection, path: Path, options: argparse.Namespace) -> None:
    most = options.memory << 30
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    begin = time.perf_counter()
    try:
        row = look(path, options.method, options.seconds)
    except Exception as error:  # said in the table, whatever it is
        row = Row(path.name, refused=f"FAILED: {type(error).__name__}: {error}")
    row.seconds = max(row.seconds, time.perf_counter() - begin if row.bound is None else 0.0)
    row.cpu = time.process_time()
    sender.send(row)


def files(folders: Iterable[Path], only: str) -> Iterator[Path]:
    """The files to look at; a file may be named itself."""
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
            if path.suffix not in BESIDE and only in path.name and not _said(NO_NETWORK, path.name, ""):
                yield path


def line(row: Row) -> str:
    """Of the table of files."""
    if row.bound is None:
        return f"| {row.file} | refused: {row.refused[:200]} | | | | {row.seconds:.1f} |"
    read = f"{row.kind}, {row.inputs} inputs, {row.nodes} nodes"
    found = below(max(row.found or 0.0, row.lower or 0.0), 5)
    return f"| {row.file} | {read} | {row.method} | {above(row.bound, 7)} | {found} | {row.seconds:.1f} |"


def families(rows: Iterable[Row]) -> Iterator[str]:
    """A line for files whose names differ in numbers only: how many are bounded, by what, bound / found, the slowest."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(re.sub(r"\d+(x\d+)*", "*", row.file), []).append(row)
    for rows_of in groups.values():
        done = [row for row in rows_of if row.bound is not None]
        name = rows_of[0].file if len(rows_of) == 1 else re.sub(r"\d+(x\d+)*", "*", rows_of[0].file)
        ratios = [row.bound / max(row.found or 0.0, row.lower or 0.0, 1e-300) for row in done if row.bound]
        ratio = f"{min(ratios):.3g} to {max(ratios):.3g}" if len(ratios) > 1 else f"{(*ratios, 0.0)[0]:.3g}"
        methods = ", ".join(sorted({row.method for row in done}))
        slowest = max(row.seconds for row in rows_of)
        why = next((f" refused: {row.refused[:160]}" for row in rows_of if row.bound is None), "")
        yield f"| {name} | {len(done)} of {len(rows_of)}{why} | {methods} | {ratio} | {slowest:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--seconds", type=float, default=60.0, help="budget of auto")
    parser.add_argument("--limit", type=float, default=180.0, help="seconds after which a file is given up")
    parser.add_argument("--memory", type=int, default=8, help="GB that a file may take")
    parser.add_argument("--only", default="", help="part of the names of files")
    parser.add_argument("--out", type=Path, help="a line of JSON for every file")
    parser.add_argument("--resume", action="store_true", help="leave out the files that stand in --out")
    parser.add_argument("--families", action="store_true", help="one line for files that are alike")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = list[Row]()
    if options.resume and options.out and options.out.exists():
        rows = [Row(**json.loads(text)) for text in options.out.read_text().splitlines()]
    elif options.out:
        options.out.write_text("")
    import torch

    torch.set_num_threads(1)
    print("| file | read as | method | bound | found | seconds |\n|---|---|---|---|---|---|", flush=True)
    known = {row.file for row in rows}
    for path in files(options.folders, options.only):
        if path.name in known:
            continue
        row = limited(path, options)
        rows.append(row)
        print(line(row), flush=True)
        if options.out:
            with options.out.open("a") as stream:
                stream.write(json.dumps(asdict(row)) + "\n")
    if options.families:
        print("\n| files | bounded | method | bound / found | slowest, s |\n|---|---|---|---|---|")
        print("\n".join(families(rows)))
    bounded, slowest = [row for row in rows if row.bound is not None], max(row.seconds for row in rows)
    print(f"\n{len(bounded)} of {len(rows)} files bounded; slowest {slowest:.1f} s.")


if __name__ == "__main__":
    main()

"""What was understood of a file beside another evaluation of it: onnxruntime where it is installed, else onnx.reference."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod

import numpy as np

from sdplip.network.graph import Network
from sdplip.network.read.onnx.reader import Reading
from sdplip.shapes import Float

Rows = Float[np.ndarray, "samples n"]
Feeds = Mapping[str, "Float[np.ndarray, '...']"]
Run = Callable[[Feeds], "list[Float[np.ndarray, '...']]"]

TOLERANCE = {"float64": 1e-5, "float32": 1e-5, "float16": 2e-2}
"""Relative to the largest output, by the type of the outputs: what the arithmetic of the file may lose."""
NOISE = 64.0
"""And this many times what a change of the inputs in their last bits does to the outputs of the file."""
TINY = 2.0**-126
SCALES = (1.0, 0.01, 10.0)
SAMPLES = 3
SEED = 20


class Status(Enum):
    """How the comparison came out."""

    AGREED = "The network that was understood gives the outputs of the file."
    DIFFERS = (
        "The network that was understood is another one than the file's: please report it with the file."
    )
    NOT_AVAILABLE = "No other evaluation of the file was possible."


@dataclass(frozen=True)
class Comparison:
    """Of a network and a file.

    Attributes:
        largest: difference of outputs, relative to the largest output.
        against: name and version of what evaluated the file.
        points: at how many inputs.
        why: it was not possible.
    """

    status: Status
    largest: float = 0.0
    against: str = ""
    points: int = 0
    why: str = ""

    def __str__(self) -> str:
        if self.status is Status.NOT_AVAILABLE:
            return f"not compared with another evaluation of the file ({self.why})"
        verb = "agrees" if self.status is Status.AGREED else "does NOT agree"
        return (
            f"{verb} with {self.against} at {self.points} random inputs: largest relative difference"
            f" {self.largest:.1e}"
        )


def compared(reading: Reading, network: Network | None = None) -> Comparison:
    """The outputs of a network (what was understood, unless given) beside those of the file, at random inputs."""
    network = reading.network if network is None else network
    points = list(_points(reading))
    values = [network(rows) for rows, _ in points]
    why = "neither onnxruntime nor onnx.reference is installed"
    for evaluator in (_onnxruntime, _reference):
        try:
            against, run = evaluator(reading)
            theirs = [_measured(reading, run, feeds) for _, feeds in points]
        except ImportError:
            continue
        except Exception as error:  # a node that the evaluator does not know: the next one
            why = " ".join(str(error).split())[:200]
            continue
        found = [
            _difference(mine, y, slack)
            for mine, (y, slack) in zip(values, theirs, strict=True)
            if np.isfinite(y).all()
        ]
        if not found:
            why = "its outputs are not finite at random inputs"
            continue
        status = Status.AGREED if all(fits for _, fits in found) else Status.DIFFERS
        count = len(found) * len(points[0][0])
        return Comparison(status, max(difference for difference, _ in found), against, count)
    return Comparison(Status.NOT_AVAILABLE, why=why)


def _points(reading: Reading) -> Iterator[tuple[Rows, Feeds]]:
    """Inputs as the network and as the file take them, the same numbers."""
    rng, layout = np.random.default_rng(SEED), reading.layout
    samples = SAMPLES if layout.free else layout.batch or 1
    for scale in SCALES:
        rows, feeds = list[Rows](), dict[str, np.ndarray]()
        for name, followed in reading.inputs.items():
            shape, dtype = layout.shapes[name], reading.dtype(name)
            full = shape if layout.batch is None else (samples, *shape[1:])
            x = (rng.standard_normal(full) * scale if followed else np.zeros(full)).astype(dtype)
            feeds[name] = x
            if followed:
                rows.append(x.astype(np.float64).reshape(samples, -1))
        yield np.concatenate(rows, 1), feeds


def _measured(reading: Reading, run: Run, feeds: Feeds) -> tuple[Rows, float]:
    """The outputs of the file, and how far they may be from what is meant: rounding, and what rounded inputs do to them."""
    y, kinds = _rows(reading, run(feeds))
    nudged = {
        name: (x * (1 + np.finfo(x.dtype).eps)).astype(x.dtype) if x.dtype.kind == "f" else x
        for name, x in feeds.items()
    }
    z, _ = _rows(reading, run(nudged))
    rounding = max(TOLERANCE.get(kind, 0.1) for kind in kinds) * abs(y).max(initial=0.0)
    with np.errstate(invalid="ignore"):
        noise = abs(z - y).max(initial=0.0)
    return y, float(rounding + NOISE * noise) if np.isfinite(noise) else np.inf


def _rows(reading: Reading, found: Sequence[np.ndarray]) -> tuple[Rows, set[str]]:
    """Outputs of the file in the order of the network, one row a sample."""
    rows = list[Rows]()
    for array, like in zip(found, reading.outputs.values(), strict=True):
        y = np.asarray(array).astype(np.float64)
        if like.batch is None:
            rows.append(y.reshape(1, -1))
            continue
        before = prod(like.shape[: like.batch.axis]) * like.batch.lead
        samples = y.size // like.size
        rows.append(y.reshape(before, samples, -1).swapaxes(0, 1).reshape(samples, -1))
    return np.concatenate(rows, 1), {np.asarray(array).dtype.name for array in found}


def _difference(mine: Rows, theirs: Rows, slack: float) -> tuple[float, bool]:
    """The largest difference, relative to the largest output, and whether it is within `slack`."""
    if mine.shape != theirs.shape:
        return np.inf, False
    far = float(abs(mine - theirs).max(initial=0.0))
    return far / max(float(abs(theirs).max(initial=0.0)), TINY), far <= slack


def _onnxruntime(reading: Reading) -> tuple[str, Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        reading.model.proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = list(reading.outputs)
    return f"onnxruntime {onnxruntime.__version__}", lambda feeds: session.run(names, dict(feeds))  # type: ignore[return-value]


def _reference(reading: Reading) -> tuple[str, Run]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(reading.model.proto)
    names = list(reading.outputs)
    return f"onnx {onnx.__version__}'s reference", lambda feeds: evaluator.run(names, dict(feeds))  # type: ignore[return-value]

"""What was understood of a file beside another evaluation of it: onnxruntime where it is installed, else onnx.reference."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.network.graph import Network, apply
from sdplip.network.operators import Activation, Grouped
from sdplip.network.read.onnx.reader import Reading
from sdplip.shapes import Float

Rows = Float[np.ndarray, "samples n"]
Feeds = Mapping[str, "Float[np.ndarray, '...']"]
Run = Callable[[Feeds], "list[Float[np.ndarray, '...']]"]

TOLERANCE = {"float64": 1e-5, "float32": 1e-5, "float16": 2e-2}
"""What the arithmetic of the file may lose, by the type of the outputs, relative to the numbers that its sums are made of."""
NUDGE = 2.0**-20
TINY = 2.0**-126
SCALES = (1.0, 0.01, 10.0)
SAMPLES = 3
MOST = 1 << 24
"""Numbers of the largest batch that is compared."""
LARGE = 20_000
"""Inputs from which on one size of inputs must do."""
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
        largest: difference of outputs, relative to the numbers that they are sums of.
        against: name and version of what evaluated the file.
        points: at how many inputs.
        other: the comparison with an evaluator that does not agree, where a later one does.
        why: it was not possible.
    """

    status: Status
    largest: float = 0.0
    against: str = ""
    points: int = 0
    other: "Comparison | None" = None
    why: str = ""

    def __str__(self) -> str:
        if self.status is Status.NOT_AVAILABLE:
            return f"not compared with another evaluation of the file ({self.why})"
        verb = "agrees" if self.status is Status.AGREED else "does NOT agree"
        where = f"at {self.points} random inputs: largest relative difference {self.largest:.1e}"
        unlike = f" ({self.other.against}: {self.other.largest:.1e})" if self.other else ""
        return f"{verb} with {self.against} {where}{unlike}"


def compared(reading: Reading, network: Network | None = None) -> Comparison:
    """The outputs of a network (what was understood, unless given) beside those of the file, at random inputs."""
    network = reading.network if network is None else network
    samples = _samples(reading)
    if samples * reading.network.inputs > MOST:
        return Comparison(Status.NOT_AVAILABLE, why="a batch is too large")
    points = list(_points(reading, samples))
    values = [network(rows) for rows, _ in points]
    sizes = [_size(network, rows, y) for (rows, _), y in zip(points, values, strict=True)]
    why, other = "neither onnxruntime nor onnx.reference is installed", None
    for evaluator in (_onnxruntime, _reference):
        try:
            against, run = evaluator(reading)
            theirs = [_rows(reading, run(feeds)) for _, feeds in points]
        except ImportError:
            continue
        except Exception as error:  # a node that the evaluator does not know: the next one
            why = " ".join(str(error).split())[:200]
            continue
        finite = [k for k, (y, _) in enumerate(theirs) if np.isfinite(y).all()]
        if not finite:
            why = "its outputs are not finite at random inputs"
            continue
        largest = max(_difference(values[k], theirs[k][0], sizes[k]) for k in finite)
        status = Status.AGREED if largest <= theirs[0][1] else Status.DIFFERS
        result = Comparison(status, largest, against, len(finite) * len(points[0][0]), other)
        if status is Status.AGREED:
            return result
        other = result  # functions of a runtime may be rougher than the standard: let the next one decide
    return other or Comparison(Status.NOT_AVAILABLE, why=why)


def _size(network: Network, x: Rows, y: Rows) -> float:
    """The size of the numbers that the outputs are made of: they themselves, or what cancels in them, found by nudging every
    value of the network a little."""
    rng, kept = np.random.default_rng(SEED), [x]
    for node in network.nodes:
        z = apply(node.op, [kept[i] for i in node.inputs])
        library = isinstance(node.op, Grouped) or (
            isinstance(node.op, Activation) and FUNCTIONS[node.op.name].roundings is None
        )
        kept.append(z + NUDGE * rng.choice([-1.0, 1.0], z.shape) * (abs(z) + library))
    return max(float(abs(y).max(initial=0.0)), float(abs(kept[-1] - y).max(initial=0.0)) / NUDGE)


def _samples(reading: Reading) -> int:
    """How many samples the file takes at once."""
    return SAMPLES if reading.layout.free else reading.layout.batch or 1


def _points(reading: Reading, samples: int) -> Iterator[tuple[Rows, Feeds]]:
    """Inputs as the network and as the file take them, the same numbers."""
    rng, layout = np.random.default_rng(SEED), reading.layout
    for scale in SCALES if reading.network.inputs < LARGE else SCALES[:1]:
        rows, feeds = list[Rows](), dict[str, np.ndarray]()
        for name, followed in reading.inputs.items():
            shape, dtype = layout.shapes[name], reading.dtype(name)
            full = shape if layout.batch is None else (samples, *shape[1:])
            x = (rng.standard_normal(full) * scale if followed else np.zeros(full)).astype(dtype)
            feeds[name] = x
            if followed:
                rows.append(x.astype(np.float64).reshape(samples, -1))
        yield np.concatenate(rows, 1), feeds


def _rows(reading: Reading, found: Sequence[np.ndarray]) -> tuple[Rows, float]:
    """Outputs of the file in the order of the network, one row a sample, and their tolerance."""
    rows = list[Rows]()
    for array, like in zip(found, reading.outputs.values(), strict=True):
        y = np.asarray(array).astype(np.float64)
        if like.batch is None:
            rows.append(y.reshape(1, -1))
            continue
        before = prod(like.shape[: like.batch.axis]) * like.batch.lead
        samples = y.size // like.size
        rows.append(y.reshape(before, samples, -1).swapaxes(0, 1).reshape(samples, -1))
    kinds = {np.asarray(array).dtype.name for array in found}
    return np.concatenate(rows, 1), max(TOLERANCE.get(kind, 0.1) for kind in kinds)


def _difference(mine: Rows, theirs: Rows, size: float) -> float:
    """The largest difference relative to `size`; infinite where the shapes differ."""
    if mine.shape != theirs.shape:
        return np.inf
    return float(abs(mine - theirs).max(initial=0.0)) / max(size, TINY)


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

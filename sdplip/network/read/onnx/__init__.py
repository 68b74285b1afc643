"""ONNX files become networks, and what was understood is compared with another evaluation of the file."""

from os import PathLike
from pathlib import Path

from sdplip.errors import InvalidWeight, SdplipError
from sdplip.network.graph import Network
from sdplip.network.read.onnx.reader import Reading, follow, opened
from sdplip.network.read.onnx.reference import Comparison, Status, compared
from sdplip.network.read.understood import Understood
from sdplip.weights.damaged import refuse_damaged

__all__ = ["Comparison", "Status", "read_onnx", "verify_understanding"]


def read_onnx(
    path: str | PathLike[str], *, inputs: str | None = None, outputs: str | None = None, compare: bool = True
) -> Understood:
    """The network of an ONNX file (`.onnx`, `.onnx.gz`), on one sample. Nothing in the file is executed.

    Args:
        inputs, outputs: of a graph with several, the name of the one that counts (other inputs are held at 0); None takes all of
            them together, as one vector.
        compare: evaluate what was understood beside onnxruntime or onnx.reference, where one is installed.

    Raises:
        UnreadableFile, MissingDependency: as for `sdplip.weights.read`.
        InvalidWeight: a node that is not covered, samples that mix, shapes that do not fit, or values that differ from those of
            the file.
    """
    path = Path(path)
    reading = _reading(path, inputs, outputs)
    checked = ""
    if compare:
        comparison = compared(reading)
        checked = str(comparison)
        if comparison.status is Status.DIFFERS:
            raise InvalidWeight(f"`{path}`: {comparison.status.value} What was understood {comparison}.")
    return Understood(
        network=reading.network,
        reading={"inputs": inputs, "outputs": outputs},
        sentences=(*reading.layout.sentences, *_choices(reading)),
        left_out=_left_out(reading),
        checked=checked,
    )


def verify_understanding(
    path: str | PathLike[str],
    network: Network | None = None,
    *,
    inputs: str | None = None,
    outputs: str | None = None,
) -> Comparison:
    """A network beside the file that it is said to be: agreed, differs or not available, with the largest difference.

    Raises:
        As `read_onnx`.
    """
    return compared(_reading(Path(path), inputs, outputs), network)


def _reading(path: Path, inputs: str | None, outputs: str | None) -> Reading:
    with refuse_damaged(path, "ONNX"):
        model = opened(path)
    try:
        return follow(model, inputs, outputs)
    except SdplipError as error:
        names = [value.name for value in model.graph.output]
        said = str(error) if f"`{path}`" in str(error) else f"`{path}`: {error}"
        if outputs is None and len(names) > 1:
            said = f"{said} It has the outputs {_listed(names)}: one of them may be named (`--output`)."
        raise type(error)(said) from None
    except Exception as error:  # attributes of wrong types or lengths, in files that no exporter writes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidWeight(
            f"`{path}` cannot be followed as a network ({reason}). Check it with `onnx.checker.check_model`."
        ) from None


def _choices(reading: Reading) -> tuple[str, ...]:
    """What several inputs and outputs mean, in words."""
    found = list[str]()
    followed = [name for name, wanted in reading.inputs.items() if wanted]
    held = [name for name, wanted in reading.inputs.items() if not wanted]
    if len(followed) > 1:
        found.append(f"The inputs {_listed(followed)} count together, as one vector.")
    if held:
        found.append(f"Only the input {_listed(followed)} counts; {_listed(held)} are held at 0.")
    if len(reading.outputs) > 1:
        found.append(f"The outputs {_listed(reading.outputs)} count together, as one vector.")
    elif len(reading.model.graph.output) > 1:
        found.append(f"Only the output {_listed(reading.outputs)} counts.")
    return tuple(found)


def _left_out(reading: Reading) -> tuple[tuple[str, str], ...]:
    names = (tensor.name for tensor in reading.model.graph.initializer)
    return tuple(
        (name, "what the output is made of does not use it") for name in names if name not in reading.used
    )


def _listed(names) -> str:
    return ", ".join(f"`{name}`" for name in names)

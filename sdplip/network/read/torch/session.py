"""What is known while one forward pass is followed, and the error that names where it stands."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import FrameType

from torch.multiprocessing.reductions import StorageWeakRef

from sdplip.errors import InvalidProblem, InvalidWeight, RefusedModule, UnsupportedConvolution
from sdplip.network.read.arrays import Tape
from sdplip.network.read.torch import agreement
from sdplip.network.read.torch.lines import current
from sdplip.network.read.torch.shadows import Shadows


@dataclass(eq=False)
class Trace:
    """One forward pass at work.

    Attributes:
        tape, shadows: what is written down.
        again: the mode in which operations are followed, once more, for those that torch defines by others.
        owned: names of parameters and buffers by the address of their storage.
        path: names of the modules that run, the innermost last.
        asleep: whether operations pass unseen.
        poisoned: where tensors that depend on the input, but are no numbers of a network (positions of maxima), come from.
        leaves: modules that were kept whole, by the value that they make.
    """

    tape: Tape
    shadows: Shadows
    owned: dict[int, str]
    frame: FrameType
    again: Callable[["Trace"], AbstractContextManager[object]]
    path: list[str] = field(default_factory=list)
    asleep: bool = False
    poisoned: dict[int, tuple[StorageWeakRef, str]] = field(default_factory=dict)
    checks: agreement.Checks = field(default_factory=agreement.Checks)
    refused: RefusedModule | None = None

    @property
    def where(self) -> str:
        """Module and line that run now."""
        line, path = current(self.frame), self.path[-1] if self.path else ""
        words = [f"`{path}`"] if path else []
        return ", ".join(words + ([str(line)] if line else [])) or "forward"

    def name(self) -> str:
        """For nodes of the network."""
        line, path = current(self.frame), self.path[-1] if self.path else ""
        at = f"{line.file}:{line.number}" if line else ""
        return f"{path} ({at})" if path and at else path or at

    def refuse(self, operation: str, why: str, where: str | None = None) -> RefusedModule:
        """The error to raise. The first one stands, whatever forward does with it."""
        error = RefusedModule(f"`{operation}` in {where or self.where} is refused: {why}")
        self.refused = self.refused or error
        return error

    @contextmanager
    def sleeping(self, asleep: bool = True) -> Iterator[None]:
        """A block whose operations are not followed, or are again."""
        before, self.asleep = self.asleep, asleep
        try:
            yield
        finally:
            self.asleep = before

    @contextmanager
    def working(self, operation: str) -> Iterator[None]:
        """A block whose refusals name the operation."""
        self.tape.kind, self.tape.at = "It", self.name()
        where = self.where  # not that of the handler
        try:
            with self.sleeping():
                yield
        except RefusedModule:
            raise
        except (InvalidWeight, InvalidProblem, UnsupportedConvolution) as error:
            why = _cleaned(str(error), self.tape)
            raise self.refuse(operation, why, where) from error


def _cleaned(message: str, tape: Tape) -> str:
    """The message of a refusal without the name of the node, which stands in front of it already."""
    return message.removeprefix(f"{tape.subject} ").replace(tape.subject, "it")

"""How a command fails: one line on stderr and its exit code, never a traceback; with `--json` also an object on stdout."""

import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import click

from sdplip.cli.answers import echo, print_json
from sdplip.errors import SdplipError

BAD_INPUT, INTERRUPTED = 2, 130


class Refusal(click.ClickException):
    """`Error: ...` and exit code 2; `kind` is the name of what was raised."""

    exit_code = BAD_INPUT

    def __init__(self, message: str, kind: str):
        super().__init__(message)
        self.kind = kind


class Interrupted(Refusal):
    """Ctrl-C, which is no error."""

    exit_code = INTERRUPTED

    def __init__(self) -> None:
        super().__init__("Interrupted.", "Interrupted")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A block whose expected errors leave it in click's own way."""
    try:
        yield
    except SdplipError as error:
        raise Refusal(" ".join(str(error).split()), type(error).__name__) from None
    except OSError as error:
        if error.errno == errno.EPIPE:  # `sdplip ... | head`: click ends quietly
            raise
        where = f"`{error.filename}`: " if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise Refusal(
                f"{where}the disk is full; nothing was written. Free space, or choose another place.",
                "OSError",
            ) from None
        raise Refusal(
            f"{where}{error.strerror or error}. Check the path and its permissions.", "OSError"
        ) from None
    except MemoryError as error:
        raise Refusal(
            f"Not enough memory ({error}). Choose fewer layers with `--layer`.", "MemoryError"
        ) from None
    except KeyboardInterrupt:
        raise Interrupted from None


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether an answer for programs is wanted, whatever else is wrong with the arguments."""
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in before


def end(error: click.ClickException, command: str, *, as_json: bool) -> NoReturn:
    """Ends the program after a failure: the sentence on stderr, and for programs the object on stdout."""
    sentence = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
        click.echo(f"Try '{error.ctx.command_path} --help' for help.\n", err=True)
    echo(sentence if isinstance(error, Interrupted) else f"Error: {sentence}", err=True)
    if as_json:
        kind = error.kind if isinstance(error, Refusal) else type(error).__name__
        print_json(command, {"error": sentence, "error_kind": kind, "exit_code": error.exit_code})
    sys.exit(error.exit_code)

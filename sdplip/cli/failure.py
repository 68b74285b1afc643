"""How a command fails: one line on stderr and exit code 2, never a traceback."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import click

from sdplip.errors import SdplipError

BAD_INPUT, INTERRUPTED = 2, 130


class Refusal(click.ClickException):
    """`Error: ...` and exit code 2."""

    exit_code = BAD_INPUT


@contextmanager
def one_line_errors(ctx: click.Context) -> Iterator[None]:
    """A block whose expected errors leave it in click's own way."""
    try:
        yield
    except SdplipError as error:
        raise Refusal(" ".join(str(error).split())) from None
    except OSError as error:
        if error.errno == errno.EPIPE:  # `sdplip ... | head`: click ends quietly
            raise
        where = f"`{error.filename}`: " if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise Refusal(
                f"{where}the disk is full; nothing was written. Free space, or choose another place."
            ) from None
        raise Refusal(f"{where}{error.strerror or error}. Check the path and its permissions.") from None
    except MemoryError as error:
        raise Refusal(f"Not enough memory ({error}). Choose fewer layers with `--layer`.") from None
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        ctx.exit(INTERRUPTED)

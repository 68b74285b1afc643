"""The command line: parse, call, print. Every answer is computed in `sdplip.reports`, every proof made in the kernel."""

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from sdplip import __version__
from sdplip.cli.bound import bound
from sdplip.cli.certify import certify
from sdplip.cli.check import check
from sdplip.cli.compare import compare
from sdplip.cli.completion import completion
from sdplip.cli.curves import curves
from sdplip.cli.failure import Interrupted, end, one_line_errors, wants_json
from sdplip.cli.recertify import recertify
from sdplip.cli.report import report
from sdplip.cli.scale import scale
from sdplip.cli.show import show
from sdplip.cli.sweep import sweep
from sdplip.cli.tighten import tighten
from sdplip.cli.train import train
from sdplip.cli.verify import verify


class Commands(click.Group):
    """A group whose commands end with one line instead of a traceback when the input is bad."""

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors():
            return super().invoke(ctx)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Any:
        if args is None:
            _quieten()
        arguments = list(sys.argv[1:] if args is None else args)
        try:
            if kwargs.get("standalone_mode", True):
                self._run(arguments, *rest, **kwargs)
            return super().main(args, *rest, **kwargs)
        except SystemExit as done:
            if os.environ.get("WORLD_SIZE", "1") == "1":
                raise
            _leave(done)

    def _run(self, arguments: list[str], *rest: Any, **kwargs: Any) -> NoReturn:
        """As a program: failures are sentences, with --json objects too."""
        named = next((word for word in arguments if word in self.commands), "sdplip")
        as_json = wants_json(arguments)
        try:
            code = super().main(arguments, *rest, **{**kwargs, "standalone_mode": False})
        except click.ClickException as error:
            end(error, named, as_json=as_json)
        except click.Abort:
            end(Interrupted(), named, as_json=as_json)
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise
            sys.exit(1)  # nobody reads any more
        sys.exit(code if isinstance(code, int) else 0)


def _quieten() -> None:
    """Warnings of libraries are for programmers: a command says in its own words what its user should know."""
    if not sys.warnoptions:  # -W and PYTHONWARNINGS bring them back
        warnings.simplefilter("ignore")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def _leave(done: SystemExit) -> NoReturn:
    """End one of several processes without taking the interpreter down around torch's threads.

    Threads of the backend and of autograd outlive the group; one that asks for the interpreter while it is being finalized
    aborts the process (SIGABRT after a run that went well), and torchrun then ends the others.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(done.code if isinstance(done.code, int) else int(done.code is not None))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sdplip")
def main() -> None:
    """Prove how Lipschitz the layers of a network are, from W^T W <= T with T diagonal.

    \b
    sdplip check FILE      does each layer satisfy the condition, and what is its proven bound?
    sdplip compare FILE    how far is each scaling T from the best one?
    sdplip bound FILE      how Lipschitz is the whole network?
    sdplip scale FILE      write the rescaled weights with their proof
    sdplip train --out RUN train a network whose robustness can be proven
    sdplip sweep RUNFILE   train with several values, choose on the validation split
    sdplip certify RUN     at how many images does the trained network keep its prediction, proven?
    sdplip tighten RUN     larger proven radii from the bound of the whole network
    sdplip curves RUN...   draw certified accuracy over radius of certified runs
    sdplip verify CERT FILE   prove a certificate again
    sdplip show CERT       say a certificate in words
    sdplip report RUN|FILE one page for the browser: what is proven, and the proof
    sdplip recertify FILE  claimed and proven constant of another library's checkpoint
    sdplip completion bash complete commands and options, also for zsh and fish

    FILE is a .npy, .npz, .mat, .pt, .pth, .safetensors, .onnx or .nnet file of weights.
    """
    # Before NumPy is imported: idle OpenBLAS workers spin, and on a busy machine that makes the many small
    # factorizations of certificates and solvers up to 200 times slower. Whoever wants threads sets the variable.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # torch's OpenMP workers spin too: on a busy two-core machine one solve took 54 s instead of 9 s.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


for command in (
    check,
    compare,
    bound,
    scale,
    train,
    sweep,
    certify,
    tighten,
    curves,
    verify,
    show,
    report,
    completion,
    recertify,
):
    main.add_command(command)

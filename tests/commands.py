"""How the tests of the command line call it."""

import json
import subprocess
import sys

from click.testing import CliRunner

from sdplip.cli import main


def invoke(*arguments):
    """Exit code, stdout and stderr of one command; an exception that is no exit is a bug and is raised."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def answer(run, *arguments):
    """Exit code and JSON of one command."""
    code, out, err = run(*arguments, "--json")
    assert not err
    return code, json.loads(out)


def check_what_verify_loads(file, *more, certificate="C.json"):
    """`sdplip verify CERTIFICATE FILE` proves in a process that loads the readers and the kernel, and no solver."""
    code = (
        "import sys; from sdplip.cli import main\n"
        f"main(['verify', {certificate!r}, {file!r}, *{more!r}], standalone_mode=False)\n"
        "print('MODULES', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    out, modules = done.stdout.split("MODULES")
    assert "proven again" in out
    forbidden = ("torch", "cvxpy", "scs", "scipy", "sdplip.bounds", "sdplip.solvers", "sdplip.scalings")
    assert not [name for name in modules.split() if name.startswith(forbidden)]

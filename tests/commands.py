"""How the tests of the command line call it."""

import json

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

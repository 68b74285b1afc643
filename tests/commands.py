"""How the tests of the command line call it."""

import json
import subprocess
import sys

from click.testing import CliRunner

from sdplip.cli import main
from sdplip.cli.keys import schema


def invoke(*arguments):
    """Exit code, stdout and stderr of one command; an exception that is no exit is a bug and is raised."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def answer(run, *arguments):
    """Exit code and JSON of one command, without `command` and `schema`; every key is as `sdplip.cli.keys` says, in that order."""
    code, out, err = run(*arguments, "--json")
    assert not err
    document = json.loads(out)
    fits(document, schema(document["command"]))
    assert (document.pop("command"), document.pop("schema")) == (arguments[0], 1)
    return code, document


def failure(run, *arguments):
    """Exit code and sentence of a command that fails, which says the same on stderr and in JSON."""
    code, out, err = run(*arguments, "--json")
    document = json.loads(out)
    fits(document, schema("error"))
    assert document["exit_code"] == code and document["error"] in " ".join(err.split())
    return code, document


TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


def fits(value, rule, where="$"):
    """What `sdplip.cli.keys.schema` uses of JSON Schema: type, properties in order, items, additional properties."""
    if "type" not in rule:
        return
    kinds = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
    if value is None:
        assert "null" in kinds, f"{where} is null"
        return
    (kind,) = (kind for kind in kinds if kind != "null")
    assert isinstance(value, TYPES[kind]) and isinstance(value, bool) == (kind == "boolean"), (where, value)
    if kind == "array":
        for k, item in enumerate(value):
            fits(item, rule["items"], f"{where}[{k}]")
    elif kind == "object" and "properties" in rule:
        assert list(value) == rule["required"] == list(rule["properties"]), where
        for key, item in value.items():
            fits(item, rule["properties"][key], f"{where}.{key}")
    elif kind == "object":
        for key, item in value.items():
            fits(item, rule["additionalProperties"], f"{where}.{key}")


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

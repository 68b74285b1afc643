"""`sdplip completion SHELL`: completion of commands, options and file names, printed or installed."""

import os
import shlex
from pathlib import Path

import click

from sdplip.cli.answers import echo, print_json
from sdplip.cli.options import json_option

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Completion of commands and options for bash, zsh, fish.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.option(
    "--install", is_flag=True, help="Install it for new shells of this user, instead of printing it."
)
@json_option
@click.pass_context
def completion(ctx: click.Context, shell: str, install: bool, as_json: bool) -> None:
    """Print the script that completes commands and options in SHELL, or install it.

    With --install the script goes to a file of its own, and bash and zsh get one line in ~/.bashrc or ~/.zshrc that reads it; a
    second time nothing is added.

    Exit code: 0, or 2 where a file cannot be written.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    script = kind(ctx.find_root().command, {}, "sdplip", "_SDPLIP_COMPLETE").source()
    file, start = places(shell)
    if install:
        _install(file, start, script)
    if as_json:
        print_json(
            "completion", {"shell": shell, "script": script, "installed": str(file) if install else None}
        )
    elif install:
        where = "" if start is None else f", which {start} reads"
        echo(
            f"Installed in {file}{where}. It works in new shells; in this one after: . {shlex.quote(str(file))}"
        )
    else:
        click.echo(script)


def _install(file: Path, start: Path | None, script: str) -> None:
    """The script in its file, and one line in the file of the shell that reads it."""
    _write(file, script)
    line = f". {shlex.quote(str(file))}  # completion of sdplip"
    if start is not None:
        said = start.read_text(encoding="utf-8") if start.exists() else ""
        if line not in said.splitlines():
            end = "" if said.endswith("\n") or not said else "\n"
            _write(start, f"{said}{end}{line}\n")


def places(shell: str) -> tuple[Path, Path | None]:
    """Where the script goes, and the file of the shell that has to read it; None for fish, which finds it."""
    home = Path.home()
    if shell == "fish":
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        return config / "fish" / "completions" / "sdplip.fish", None
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    start = Path(os.environ.get("ZDOTDIR") or home) / ".zshrc" if shell == "zsh" else home / ".bashrc"
    return data / "sdplip" / f"completion.{shell}", start


def _write(path: Path, text: str) -> None:
    """Into the file itself where the path is a link, as those of people who keep their settings elsewhere are."""
    from sdplip.writing import write_text

    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)

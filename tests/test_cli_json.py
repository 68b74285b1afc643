"""`--json` of every command: failures are objects too, and nothing else stands on stdout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from jsonschema import validate

from sdplip.cli import main
from sdplip.cli.keys import DOCUMENTS, schema
from tests.commands import answer, failure, fits, invoke


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a matrix."""
    monkeypatch.chdir(tmp_path)
    np.save("W.npy", np.array([[3.0, 0.0], [4.0, 5.0]]))


@pytest.mark.parametrize("command", sorted(set(DOCUMENTS) - {"completion"}))  # which reads no file
def test_a_missing_file_is_an_object(command):
    more = {
        "verify": ["none.npz"],
        "scale": ["-o", "out.npz"],
        "train": ["--out"],
        "sweep": ["--out", "out", "--set", "loss.offset=1,2"],
    }.get(command, [])
    files = [*more, "none.npy"] if command == "train" else ["none.npy", *more]
    if command == "train":
        files = ["--resume", "none"]
    code, document = failure(invoke, command, *files)
    assert code == 2 and document["command"] == command
    assert document["error_kind"] in ("UnreadableFile", "InvalidCertificate", "InvalidRun", "InvalidConfig")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("check", "W.npy", "--scaling", "none"), "UsageError"),
        (("check", "W.npy", "--nothing"), "NoSuchOption"),
        (("check",), "MissingParameter"),
        (("bound", "W.npy", "--method", "none"), "BadParameter"),
        (("nothing",), "NoSuchCommand"),
    ],
)
def test_wrong_arguments_are_objects(arguments, kind):
    code, document = failure(invoke, *arguments)
    assert (code, document["error_kind"]) == (2, kind)
    assert document["command"] == (arguments[0] if arguments[0] != "nothing" else "sdplip")


def test_a_file_named_json_is_no_wish():
    code, out, err = invoke("check", "--", "--json")
    assert (code, out) == (2, "") and "--json" in err


def test_an_interrupt_is_an_object(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sdplip.reports.check", interrupted)
    code, document = failure(invoke, "check", "W.npy")
    assert (code, document["error"], document["error_kind"]) == (130, "Interrupted.", "Interrupted")
    code, out, err = invoke("check", "W.npy")
    assert (code, out, err) == (130, "", "Interrupted.\n")


def test_exit_codes_of_answers_stay():
    assert answer(invoke, "check", "W.npy")[0] == 1
    assert answer(invoke, "check", "W.npy", "--scaling", "aol")[0] == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_by_one_command(shell, tmp_path, monkeypatch):
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    start = tmp_path / f".{shell}rc"
    start.write_text("alias a=b")  # without a line end
    code, script, err = invoke("completion", shell)
    assert (code, err) == (0, "") and "_SDPLIP_COMPLETE" in script and not list(tmp_path.rglob("*sdplip*"))
    for _ in range(2):
        assert invoke("completion", shell, "--install")[0] == 0
    (file,) = (
        path for path in tmp_path.rglob("*") if path.is_file() and "sdplip" in str(path.relative_to(tmp_path))
    )
    assert file.read_text().strip() == script.strip()
    lines = start.read_text().splitlines()
    assert lines[0] == "alias a=b" and len(lines) == (1 if shell == "fish" else 2)
    assert shell == "fish" or str(file) in lines[1]


def test_completion_and_presets_are_objects(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    code, said = answer(invoke, "completion", "bash")
    assert (code, said["shell"], said["installed"]) == (0, "bash", None) and "_SDPLIP_COMPLETE" in said[
        "script"
    ]
    code, said = answer(invoke, "completion", "bash", "--install")
    assert Path(said["installed"]).read_text() == said["script"]
    code, out, err = invoke("train", "--list-presets", "--json")
    said = json.loads(out)
    validate(said, schema("presets"))
    assert (code, err) == (0, "") and "digits-sll" in said["presets"]


def test_completion_completes():
    """What the scripts of the shells ask."""
    asked = {"_SDPLIP_COMPLETE": "bash_complete", "COMP_WORDS": "sdplip comp", "COMP_CWORD": "1"}
    done = CliRunner().invoke(main, env=asked, prog_name="sdplip")
    assert done.stdout.split() == ["plain,compare", "plain,completion"]


def test_help_beside_json():
    result = CliRunner().invoke(main, ["check", "--json", "--help"])
    assert result.exit_code == 0 and result.stdout.startswith("Usage:")


def test_the_verifier_by_itself_speaks_the_same_schema(capsys):
    from sdplip.verifier.main import main as verifier

    assert verifier(["none.json", "W.npy", "--json"]) == 2
    said = capsys.readouterr()
    document = json.loads(said.out)
    fits(document, schema("error"))
    assert said.err == f"Error: {document['error']}\n"
    assert invoke("check", "W.npy", "--scaling", "aol", "--certificate", "C.json")[0] == 0
    assert verifier(["C.json", "W.npy", "--json"]) == 0
    fits(json.loads(capsys.readouterr().out), schema("verify"))


def test_warnings_of_libraries_stay_off_the_screen():
    """The program hides them; `python -W` brings them back."""
    code = (
        "import sys, warnings; from sdplip.cli import main\n"
        "import sdplip.reports as r; old = r.check\n"
        "def warned(*a, **k): warnings.warn('from a library', UserWarning); return old(*a, **k)\n"
        "r.check = warned; sys.argv = ['sdplip', 'check', 'W.npy', '--json']; main()"
    )
    own = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    quiet, loud = (
        subprocess.run([sys.executable, *more, "-c", code], capture_output=True, text=True, env=own)
        for more in ([], ["-Wdefault"])
    )
    assert quiet.returncode == 1 and quiet.stderr == "" and json.loads(quiet.stdout)["verdict"] == "violated"
    assert "from a library" in loud.stderr

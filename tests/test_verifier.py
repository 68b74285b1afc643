"""The verifier needs NumPy alone, proves what it is given, and refuses what is not so."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sdplip.errors import InvalidCertificate, UnreadableFile
from sdplip.verifier import document
from sdplip.verifier.document import read
from sdplip.verifier.main import main
from sdplip.verifier.verify import verify
from tests.smoke_certificate import main as write_smoke

BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | {"numpy", "sdplip"}:
            raise ImportError(name)
sys.meta_path.insert(0, Block())
from sdplip.verifier.main import main
code = main(sys.argv[1:])
assert not {"torch", "scipy", "click", "rich", "jaxtyping", "onnx"} & set(sys.modules)
sys.exit(code)
"""


@pytest.fixture
def smoke(tmp_path):
    write_smoke(tmp_path)
    return tmp_path


def test_numpy_alone(smoke):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(smoke / "cert.json"), str(smoke / "net.npz")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "1 of 1 claims proven again" in done.stdout, done.stderr


def test_what_is_assumed_and_claimed_is_said(smoke, capsys):
    assert main([str(smoke / "cert.json"), str(smoke / "net.npz")]) == 0
    text = capsys.readouterr().out
    assert (
        "relu stands between them, which is assumed" in text and "is Lipschitz with constant at most" in text
    )
    assert main([str(smoke / "cert.json"), str(smoke / "net.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["proven"] and found["claims"][0]["claim"]["kind"] == "lipschitz" and found["assumed"]
    assert main(["--show", str(smoke / "cert.json")]) == 0
    assert "Nothing above is checked" in capsys.readouterr().out


def changed(smoke, change):
    document = json.loads((smoke / "cert.json").read_text())
    change(document)
    (smoke / "cert.json").write_text(json.dumps(document))
    return verify(smoke / "cert.json", smoke / "net.npz")


def test_less_is_not_proven_and_more_is(smoke):
    def lower(document):
        document["claims"][0]["claim"]["bound"] *= 1 - 1e-9

    assert not changed(smoke, lower).proven
    assert main([str(smoke / "cert.json"), str(smoke / "net.npz")]) == 1

    def larger(document):
        document["claims"][0]["claim"]["bound"] *= 2

    assert changed(smoke, larger).proven


def test_another_file_is_refuted(smoke):
    np.savez(smoke / "net.npz", **{"fc1.weight": np.eye(3), "fc2.weight": np.eye(3)})
    found = verify(smoke / "cert.json", smoke / "net.npz")
    assert not found.proven and "SHA-256" in found.reason and len(found.claims) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(claims=[]),
        lambda d: d.update(schema="sdplip-certificate/1"),
        lambda d: d.update(extra=1),
        lambda d: d["claims"][0]["claim"].update(bound=-1.0),
        lambda d: d["claims"][0]["claim"].update(bound="1"),
        lambda d: d["claims"][0]["claim"].update(output=[0, 1, 2]),
        lambda d: d["claims"][0]["claim"].update(more=1),
        lambda d: d["file"]["reading"].update(kind="zzz"),
        lambda d: d["file"]["reading"].update(activation=3),
        lambda d: d["claims"][0].pop("proof"),
    ],
)
def test_what_is_no_certificate(smoke, change):
    with pytest.raises(InvalidCertificate):
        changed(smoke, change)
    assert main([str(smoke / "cert.json"), str(smoke / "net.npz")]) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000 + "]" * 100_000,
        '{"schema": 1, "schema": 2}',
        "NaN",
        '{"schema": "sdplip-certificate/2", "x": 1e999}',
        "\ud800".encode("utf-8", "surrogatepass").decode("latin1"),
    ],
)
def test_what_is_no_json(smoke, text):
    (smoke / "cert.json").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidCertificate):
        verify(smoke / "cert.json", smoke / "net.npz")


def test_brackets_in_texts_hide_no_depth_and_escapes_no_quotes(tmp_path):
    deep = '{"a": "' + "]" * 300 + '", "b": ' + "[" * 200 + "]" * 200 + "}"
    for text in (deep, deep.replace('"a"', r'"\\\""')):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(InvalidCertificate, match="201 deep"):
            read(tmp_path / "c.json")


def test_values_are_counted_before_they_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(document, "MOST", 100)
    (tmp_path / "c.json").write_text("[" + "0," * 99 + "0]")
    with pytest.raises(InvalidCertificate, match="no certificate"):
        read(tmp_path / "c.json")
    (tmp_path / "c.json").write_text("[" + "0," * 100 + "0]")
    with pytest.raises(InvalidCertificate, match="holds 101 values"):
        read(tmp_path / "c.json")


def test_lines_hold_nothing_that_moves_the_cursor(smoke, capsys):
    def change(document):
        document["made"]["\x1b[2Jsdplip"] = "1\nPROVEN AGAIN: everything"
        document["claims"][0]["proof"]["rule"] = "x\nPROVEN AGAIN: everything\ud800"

    assert not changed(smoke, change).proven
    for arguments in (
        ["--show", str(smoke / "cert.json")],
        [str(smoke / "cert.json"), str(smoke / "net.npz")],
    ):
        main(arguments)
        text = capsys.readouterr().out
        assert "everything" in text and not any(line.startswith("PROVEN AGAIN") for line in text.splitlines())
        assert all(c.isprintable() or c == "\n" for c in text)


def test_missing_files(smoke):
    with pytest.raises(InvalidCertificate):
        verify(smoke / "none.json", smoke / "net.npz")
    assert main([str(smoke / "cert.json"), str(smoke / "none.npz")]) == 2
    with pytest.raises((UnreadableFile, OSError)):
        verify(smoke / "cert.json", smoke / "none.npz")

"""Sample outputs in the documentation, run again: `python docs/console_blocks.py` compares, `--renew` writes them anew.

Every ```console block whose commands have outputs is run in one folder a page, with the published weight files of
`$SDPLIP_DATA/benchmarks` and what our examples write. Texts must agree, numbers up to their last digits; seconds may differ.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (sdplip .*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*[A-Za-z_])")
SECONDS = re.compile(r'\d[\d.e-]* s\b|(?<=seconds": )[\d.e-]+')
WIDTH = 100
CLOSE, TRAINED, SMALL = 1e-5, 1e-2, 1e-6
"""Numbers agree if they differ by no more than this, relative (of networks that are trained here `TRAINED`) and absolute: gaps
and 1 + 2e-12 are the machine's."""


def pages() -> Iterator[Path]:
    """Pages with outputs to run, help texts apart."""
    for path in sorted(DOCS.glob("*.md")):
        if any(True for block in BLOCK.findall(path.read_text()) for _ in outputs(block)):
            yield path


def outputs(block: str) -> Iterator[tuple[str, str]]:
    """Commands of a block that have an output, and that."""
    for command, output in COMMAND.findall(block):
        if output.strip() and "--help" not in command:
            yield command, output


def folder_for(page: str, folder: Path) -> None:
    """Everything that the commands of a page read."""
    data = os.environ.get("SDPLIP_DATA")
    for path in (Path(data) / "benchmarks").glob("*") if data else ():
        if path.name in page:
            shutil.copy(path, folder)
    run = [sys.executable]
    examples = DOCS.parent / "examples"
    if "digits.onnx" in page:
        subprocess.run([*run, examples / "digits_weights.py", "digits.npz"], cwd=folder, check=True)
        subprocess.run([*run, examples / "formats.py", "digits.npz"], cwd=folder, check=True)
    if "caught/" in page:
        subprocess.run([*run, examples / "caught.py", "caught"], cwd=folder, check=True, capture_output=True)


def answer(command: str, folder: Path) -> str | None:
    """What the command prints, in a terminal of a fixed width; None where a published file is not there."""
    words = shlex.split(command)[1:]
    missing = [w for w in words[1:2] if "." in w and not (folder / w).exists()]
    if missing:
        print(f"not run, `{missing[0]}` is not here: {command}")
        return None
    done = subprocess.run(
        [sys.executable, "-m", "sdplip", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": str(WIDTH), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    if done.returncode not in (0, 1, 3):
        raise SystemExit(f"{command}\n{done.stderr}")
    return "".join(line.rstrip() + "\n" for line in done.stdout.splitlines()).strip("\n") + "\n"


def without_times(output: str) -> list[str]:
    """The lines without seconds: of a table whose last column they are, without that column."""
    lines, end = [], None
    for line in output.splitlines():
        if line.rstrip().endswith("seconds"):
            end = len(line.rstrip()) - len("seconds")
        elif not line.strip():
            end = None
        text = SECONDS.sub("", line[:end])
        lines.append(" ".join(re.sub("─+", "─", text).split()))
    return [line for line in lines if line]


def without_pairs(output: str) -> str:
    """Without the row of `pairs`, which goes as far as its time, and the sentence about the best method where that is this one."""
    if "\n pairs " not in output:
        return output
    rest = re.sub(r"^Proven:.*\n(?:[^A-Z\n].*\n)*", "", output, flags=re.MULTILINE)
    return re.sub(r"^ pairs .*\n", "", rest, flags=re.MULTILINE)


def differs(said: str, true: str, close: float = CLOSE) -> str | None:
    """The first line that is not what it should be, up to seconds and last digits."""
    a, b = without_times(said), without_times(true)
    for x, y in zip(a, b, strict=False):
        if NUMBER.sub("#", x) != NUMBER.sub("#", y) or not all(
            _near(u, v, close) for u, v in zip(NUMBER.findall(x), NUMBER.findall(y), strict=True)
        ):
            return f"is said: {x}\nis true: {y}"
    return None if len(a) == len(b) else f"{len(a)} lines are said, {len(b)} are true"


def _near(x: str, y: str, close: float) -> bool:
    a, b = float(x.replace(",", "")), float(y.replace(",", ""))
    return abs(a - b) <= max(close * abs(b), SMALL)


def renewed(text: str, folder: Path, *, stale: list[str]) -> str:
    """The page with outputs as they are now; `stale` gets those that were not true."""

    def block(found: re.Match[str]) -> str:
        body = found[1]
        for command, output in outputs(body):
            true = answer(command, folder)
            if true is None:
                continue
            said, found = (without_pairs(text) for text in (output, true))
            different = differs(said, found, TRAINED if " digits." in command else CLOSE)
            if different:
                stale.append(f"$ {command}\n{different}")
                body = body.replace(f"$ {command}\n{output}", f"$ {command}\n{true}")
        return f"```console\n{body}```"

    return BLOCK.sub(block, text)


def main() -> None:
    stale = list[str]()
    for path in pages():
        page = path.read_text()
        with tempfile.TemporaryDirectory() as name:
            folder_for(page, Path(name))
            new = renewed(page, Path(name), stale=stale)
        if "--renew" in sys.argv:
            path.write_text(new)
    print(*stale, sep="\n\n")
    sys.exit(bool(stale) and "--renew" not in sys.argv)


if __name__ == "__main__":
    main()

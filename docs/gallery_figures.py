"""Runs the scripts of the gallery: their figures and thumbnails into docs/figures/gallery, their CPU times into docs/gallery.md.

python docs/gallery_figures.py [NAME ...]      all of them, or the named ones; each in a process of its own
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
GALLERY, PICTURES, PAGE = (
    ROOT / "examples" / "gallery",
    ROOT / "docs" / "figures" / "gallery",
    ROOT / "docs" / "gallery.md",
)


def timed(page: str, name: str, seconds: str) -> str:
    """The page with the CPU time of the section that runs this script."""
    before, command, after = page.partition(f"python examples/gallery/{name}.py\n")
    if not command:
        raise SystemExit(
            f"docs/gallery.md has no section with the command `python examples/gallery/{name}.py`."
        )
    return before + command + re.sub(r"CPU time: \d+ s\.", f"CPU time: {seconds} s.", after, count=1)


def main() -> None:
    (PICTURES / "thumbs").mkdir(parents=True, exist_ok=True)
    names = sys.argv[1:] or sorted(path.stem for path in GALLERY.glob("*.py") if path.stem != "exhibit")
    for name in names:
        ran = subprocess.run(
            [sys.executable, str(GALLERY / f"{name}.py"), "--out", str(PICTURES)],
            capture_output=True,
            text=True,
        )
        print(f"{name}\n{ran.stdout}{ran.stderr}", flush=True)
        if ran.returncode:
            raise SystemExit(f"{name}.py failed.")
        (seconds,) = re.findall(r"^CPU time: (\d+) s$", ran.stdout, re.M)
        PAGE.write_text(timed(PAGE.read_text(), name, seconds))


if __name__ == "__main__":
    main()

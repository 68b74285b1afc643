"""The main job on an embedded default, as `make demo` runs it: train, certify, check, compare, draw, report.

python examples/demo.py FOLDER

Runs the same commands that a user types, prints each before its answer, and leaves the run, figures and proofs in FOLDER.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

ALLOWED = {"check": (0, 1)}  # 1 says "violated", which is what raw weights are


def shown(arguments: tuple[str, ...], width: int = 78) -> str:
    """The command as one types it, folded between words where it is long."""
    lines = textwrap.wrap(
        f"$ sdplip {' '.join(arguments)}",
        width,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return " \\\n".join(lines)


def run(folder: Path, *arguments: str) -> None:
    """One command of the command line, in `folder`."""
    print(f"\n{shown(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "sdplip", *arguments], cwd=folder, check=False)
    if done.returncode not in ALLOWED.get(arguments[0], (0,)):
        sys.exit(done.returncode)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    weights = "digits/model.safetensors"
    run(folder, "train", "--preset", "digits-sll", "--out", "digits")
    run(folder, "certify", "digits", "--radii", "36/255,108/255")
    print("\nThe attack takes 100 of the images, so that all of this takes a minute.", flush=True)
    run(folder, "certify", "digits", "--attack", "pgd", "--radii", "108/255", "--limit", "100")
    run(folder, "curves", "digits", "-o", "curves.png", "--csv", "curves.csv")
    run(folder, "check", weights, "--form", "residual", "--scaling", "aol", "--layer", "7.weight")
    run(folder, "compare", weights, "--form", "residual", "--layer", "7.weight", "--plot", "scalings.png")
    proof = "scaled.certificate.json"
    run(folder, "scale", weights, "--form", "residual", "--layer", "7.weight", "-o", "scaled.npz", "--force")
    run(folder, "verify", proof, "scaled.npz")
    run(folder, "report", "digits", "-o", "report.html", "--seconds", "5")
    print(f"\nRun: {folder / 'digits'}")
    print(f"Certified accuracy, drawn: {folder / 'curves.png'}")
    print(f"Scalings of a layer, drawn: {folder / 'scalings.png'}")
    print(f"Proof, checked again with NumPy alone: {folder / proof}")
    print(f"All of it on one page, for the browser:\n{(folder / 'report.html').resolve().as_uri()}")


if __name__ == "__main__":
    main()

"""The main job on an embedded default, as `make demo` runs it: train, certify, check, compare, draw, report.

python examples/demo.py FOLDER

Runs the same commands that a user types, prints each before its answer, and leaves the run, figures and proofs in FOLDER.
"""

import subprocess
import sys
from pathlib import Path

ALLOWED = {"check": (0, 1)}  # 1 says "violated", which is what raw weights are


def run(folder: Path, *arguments: str) -> None:
    """One command of the command line, in `folder`."""
    print(f"\n$ sdplip {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "sdplip", *arguments], cwd=folder, check=False)
    if done.returncode not in ALLOWED.get(arguments[0], (0,)):
        sys.exit(done.returncode)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    weights = "digits/model.safetensors"
    run(folder, "train", "--preset", "digits-sll", "--out", "digits")
    run(folder, "certify", "digits", "--attack", "pgd", "--radii", "36/255,108/255")
    run(folder, "curves", "digits", "-o", "curves.png", "--csv", "curves.csv")
    run(folder, "check", weights, "--form", "residual", "--scaling", "aol", "--layer", "7.weight")
    run(folder, "compare", weights, "--form", "residual", "--layer", "7.weight", "--plot", "scalings.png")
    proof = "scaled.certificate.json"
    run(folder, "scale", weights, "--form", "residual", "--layer", "7.weight", "-o", "scaled.npz", "--force")
    run(folder, "verify", proof, "scaled.npz")
    run(folder, "report", "digits", "-o", "report.html", "--seconds", "5")
    print(
        f"\nFigures: {folder / 'curves.png'} (certified accuracy), {folder / 'scalings.png'} (scalings of a layer)."
    )
    print(f"Run: {folder / 'digits'}. Proof, checked again with NumPy alone: {folder / proof}.")
    print(f"All of it on one page, for the browser: {(folder / 'report.html').resolve().as_uri()}")


if __name__ == "__main__":
    main()

"""The main job on an embedded default, as `make demo` runs it: train a small digits network, judge it, hand out the proof.

python examples/demo.py FOLDER

Runs the same commands that a user types, prints each before its answer, and leaves the figure and the certificate in FOLDER.
"""

import subprocess
import sys
from pathlib import Path

ALLOWED = {"check": (0, 1)}  # 1 says "violated", which is what a plainly trained network is


def run(folder: Path, *arguments: str) -> None:
    """One command of the command line, in `folder`."""
    print(f"\n$ sdplip {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "sdplip", *arguments], cwd=folder, check=False)
    if done.returncode not in ALLOWED.get(arguments[0], (0,)):
        sys.exit(done.returncode)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    print("Training a 64-32-10 network on scikit-learn's digits ...", flush=True)
    script = Path(__file__).with_name("digits_weights.py")
    subprocess.run([sys.executable, str(script.resolve()), "digits.npz"], cwd=folder, check=True)
    run(folder, "check", "digits.npz")
    run(folder, "compare", "digits.npz", "--plot", "digits.png")
    run(folder, "check", "digits.npz", "--scaling", "min_trace", "--certificate", "digits.certificate.json")
    run(folder, "verify", "digits.certificate.json", "digits.npz")
    run(folder, "scale", "digits.npz", "--scaling", "min_trace", "-o", "digits.scaled.npz", "--force")
    print(f"\nFigure: {folder / 'digits.png'}. Proof: {folder / 'digits.certificate.json'}.")
    print(f"1-Lipschitz weights, proven as they are stored: {folder / 'digits.scaled.npz'}.")


if __name__ == "__main__":
    main()

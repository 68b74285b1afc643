"""Writes weights and a certificate about them into a folder, for a verifier in an environment of its own (see `make wheel`)."""

import sys
from pathlib import Path

import numpy as np

from sdplip.bounds.choose import bound
from sdplip.network.read.anything import understand
from sdplip.verifier.claim import LipschitzClaim
from sdplip.verifier.document import Document, Entry, digest, write


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    file = folder / "net.npz"
    np.savez(file, **{"fc1.weight": rng.normal(size=(20, 8)), "fc2.weight": rng.normal(size=(3, 20))})
    understood = understand(file)
    found = bound(understood.network, "riccati")
    entry = Entry(LipschitzClaim(found.bound).to_json(), found.proof)
    write(folder / "cert.json", Document(digest(file), understood.reading, (entry,)), "smoke")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

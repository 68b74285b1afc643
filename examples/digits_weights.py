"""Weights to try the commands on: a small network (64-32-10) trained on scikit-learn's bundled digits in a few seconds.

python examples/digits_weights.py digits.npz
sdplip check digits.npz
sdplip compare digits.npz --plot digits.png
sdplip check digits.npz --scaling aol --certificate digits.json
sdplip verify digits.json digits.npz
"""

import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


def train(path: str) -> float:
    """Test accuracy of the network, after its weights `(out, in)` and biases are written to `path`."""
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(images / 16, labels, test_size=0.25, random_state=0)
    network = MLPClassifier((32,), alpha=1e-3, tol=1e-3, max_iter=300, random_state=0)
    network.fit(train_x, train_y)
    arrays = {}
    for i, (weight, bias) in enumerate(zip(network.coefs_, network.intercepts_, strict=True), 1):
        arrays[f"fc{i}.weight"] = weight.T.astype(np.float32)  # scikit-learn stores (in, out)
        arrays[f"fc{i}.bias"] = bias.astype(np.float32)
    np.savez(path, **arrays)
    return float(network.score(test_x, test_y))


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else "digits.npz"
    print(f"accuracy on 450 unseen digits: {train(target):.1%}; weights in {target}")

"""The embedded default: 1797 handwritten digits of 8 x 8 pixels, bundled with scikit-learn."""

import numpy as np

from sdplip.errors import MissingDependency
from sdplip.training.data.check import checked
from sdplip.training.data.dataset import DataSet
from sdplip.training.data.hold_out import hold_out

TEST_SHARE = 0.2


def load_digits() -> DataSet:
    """The digits, a fifth of every class as test set (a fixed choice, since the data come without one).

    The values v = 0, ..., 16 become the bytes `round(255 v / 16)`: one to one, and within 1/510 of v/16 as a pixel in [0, 1].

    Raises:
        MissingDependency: without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits as bundled
    except ImportError:
        raise MissingDependency(
            "`digits` comes with scikit-learn, which is not installed. Run `pip install scikit-learn`."
        ) from None
    values, labels = bundled(return_X_y=True)
    images = np.rint(values * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    train, test = hold_out(checked(images, labels, 10, "scikit-learn's digits"), TEST_SHARE)
    return DataSet("digits", train, None, test, tuple(map(str, range(10))))

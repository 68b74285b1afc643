"""Tables for regression: rows of numbers with numbers as targets, standardised by the training rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped

from sdplip.errors import InvalidData, MissingDependency
from sdplip.training.data.dataset import DataSet, Split, Standard
from sdplip.training.data.hold_out import hold_out

KEYS = ("train_inputs", "train_targets", "test_inputs", "test_targets")
"""What a .npz of rows holds: `(n, features)` numbers, and `(n,)` or `(n, outputs)` targets."""

TEST_SHARE = 0.2


def load_diabetes() -> DataSet:
    """442 patients with ten measurements each, and how their diabetes progressed within a year (Efron et al. 2004).

    A fifth is the test set, a fixed choice, since the data come without one.

    Raises:
        MissingDependency: without scikit-learn.
    """
    try:
        from sklearn.datasets import load_diabetes as bundled
    except ImportError:
        raise MissingDependency(
            "`diabetes` comes with scikit-learn, which is not installed. Run `pip install scikit-learn`."
        ) from None
    inputs, targets = bundled(return_X_y=True, scaled=False)
    return of_arrays("diabetes", np.asarray(inputs), np.asarray(targets), names=("progression",))


def of_npz(name: str, found: dict[str, np.ndarray], path: Path) -> DataSet:
    """The data set of the arrays of a .npz file.

    Raises:
        InvalidData: missing arrays, or such as are no rows and targets.
    """
    missing = [key for key in KEYS if key not in found]
    if missing:
        raise InvalidData(
            f"`{path}` has `train_targets`, so it is a table for regression, but `{missing[0]}` is missing. It needs"
            f" {', '.join(f'`{key}`' for key in KEYS)}."
        )
    return of_arrays(Path(name).stem, *(found[key] for key in KEYS), source=f"`{path}`")


def of_arrays(
    name: str,
    inputs: Shaped[np.ndarray, "n features"],
    targets: Shaped[np.ndarray, "n ..."],
    test_inputs: Shaped[np.ndarray, "m features"] | None = None,
    test_targets: Shaped[np.ndarray, "m ..."] | None = None,
    *,
    names: Sequence[str] | None = None,
    source: str = "`data`",
) -> DataSet:
    """The data set of rows and targets; without test rows a fifth of the rows is held out as such.

    Raises:
        InvalidData: shapes that do not fit, numbers that are not finite, a column or a target that is the same in every row.
    """
    x, y = _numbers(inputs, f"inputs of {source}"), _numbers(targets, f"targets of {source}", targets=True)
    _together(x, y, source)
    train = Split(torch.from_numpy(x), torch.from_numpy(y))
    if test_inputs is None or test_targets is None:
        train, test = hold_out(train, TEST_SHARE, seed=1)
    else:
        p = _numbers(test_inputs, f"test inputs of {source}")
        q = _numbers(test_targets, f"test targets of {source}", targets=True)
        _together(p, q, f"the test part of {source}")
        if p.shape[1:] != x.shape[1:] or q.shape[1:] != y.shape[1:]:
            raise InvalidData(
                f"Training and test rows of {source} differ: {x.shape[1]} and {p.shape[1]} numbers with {y.shape[1]} and {q.shape[1]}"
                " targets."
            )
        test = Split(torch.from_numpy(p), torch.from_numpy(q))
    standard = _standard(train, source)
    outputs = tuple(names) if names is not None else tuple(f"target {k}" for k in range(y.shape[1]))
    return DataSet(name, _applied(train, standard), None, _applied(test, standard), outputs, standard)


def _standard(train: Split, source: str) -> Standard:
    """Means and standard deviations of the training rows, which are computed once and rounded."""
    parts = []
    for what, values in (("input", train.images), ("target", train.labels)):
        mean, std = values.double().mean(0), values.double().std(0, correction=0)
        if not bool((std > 0).all()):
            column = int((std <= 0).nonzero()[0])
            raise InvalidData(
                f"Column {column} of the {what}s of {source} is the same in every training row. Drop it: it says nothing."
            )
        parts += [tuple(mean.tolist()), tuple(std.tolist())]
    return Standard(*parts)


def _applied(split: Split, standard: Standard) -> Split:
    def of(values: Float[torch.Tensor, "n k"], mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
        return (
            (values.double() - torch.tensor(mean, dtype=torch.float64))
            / torch.tensor(std, dtype=torch.float64)
        ).float()

    return Split(
        of(split.images, standard.input_mean, standard.input_std),
        of(split.labels, standard.target_mean, standard.target_std),
    )


def _numbers(values: Any, source: str, *, targets: bool = False) -> Float[np.ndarray, "n k"]:
    array = np.asarray(values)
    if targets and array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
        raise InvalidData(
            f"The {source} are {array.dtype} of shape {array.shape}, but numbers of shape (rows, columns) are needed."
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InvalidData(f"The {source} hold NaN or infinity. Drop or fill these rows.")
    return array


def _together(x: np.ndarray, y: np.ndarray, source: str) -> None:
    if len(x) != len(y):
        raise InvalidData(f"{source} holds {len(x)} rows but {len(y)} targets. Give one target a row.")

"""A search on patterns in a file, to go on from: NumPy arrays, written whole or not at all. What it holds is believed by nobody: bounds are
proven again at the end, the point again at once."""

import hashlib
import io
from pathlib import Path

import numpy as np

from sdplip.bounds.numerics.hinge_search import Search
from sdplip.bounds.numerics.hinge_tree import Tree
from sdplip.errors import InvalidProblem
from sdplip.kernel.hinges import Hinges
from sdplip.kernel.regions import Ball, Box, Cut
from sdplip.kernel.rules.patterns import EMPTY
from sdplip.kernel.sides import Sides
from sdplip.shapes import Float
from sdplip.writing import write_bytes


def keep(path: Path, name: str, search: Search) -> None:
    """Writes the search.

    Raises:
        OSError: with the name of the file.
    """
    x = np.zeros(0) if search.lower.x is None else search.lower.x
    stream = io.BytesIO()
    arrays = {"name": np.array(name), "x": x, **search.tree.arrays()}
    np.savez_compressed(stream, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]
    write_bytes(path, stream.getvalue())


def kept(
    path: Path, hinges: Hinges, where: Sides | None
) -> tuple[str, Tree | None, Float[np.ndarray, " inputs"] | None]:
    """The name of this search, and the tree and the point of its file; None where there is no file yet.

    Raises:
        InvalidProblem: a file that is none, or of another search.
    """
    name = _name(hinges, where)
    if not path.exists():
        return name, None, None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        same = str(arrays["name"]) == name
        tree = Tree.of(hinges.order, arrays) if same else None
        whole = tree is not None and _hangs_together(tree)
        x = arrays["x"].astype(np.float64)
    except (OSError, ValueError, KeyError, IndexError, EOFError) as error:
        raise InvalidProblem(
            f"`{path}` is no kept search ({type(error).__name__}). Name another file."
        ) from None
    if tree is None:
        raise InvalidProblem(
            f"`{path}` keeps a search of another network, region or output. Name another file."
        )
    if not whole:
        raise InvalidProblem(f"`{path}` is no kept search: its tree is torn. Delete it.")
    return name, tree, x if x.shape == (hinges.inputs,) else None


def _hangs_together(tree: Tree) -> bool:
    """Whether every fork has two branches behind it and asks a hinge."""
    n = len(tree.fork)
    if not n or not len(tree.fork) == len(tree.child) == len(tree.kappa) == len(tree.lam):
        return False
    for node, (fork, child) in enumerate(zip(tree.fork, tree.child, strict=True)):
        if fork < EMPTY or fork >= tree.order or (fork >= 0 and not node < child < n - 1):
            return False
        if (fork == EMPTY) != (node in tree.against):
            return False
    return bool(np.isfinite(tree.kappa).all() and all(np.isfinite(v).all() for v in tree.lam))


def _name(hinges: Hinges, where: Sides | None) -> str:
    """A digest of what is searched."""
    sha = hashlib.sha256(b"patterns/1")
    region = None if where is None else where.region
    regions = [region.ball, region.box] if isinstance(region, Cut) else [region]
    ends = [np.array([where is None, region is None], float)]
    for one in regions:
        ends += [one.center, np.array([one.radius])] if isinstance(one, Ball) else []
        ends += [one.lower, one.upper] if isinstance(one, Box) else []
    for array in (hinges.y.mid, hinges.out.mid, *ends):
        sha.update(repr(array.shape).encode() + np.ascontiguousarray(array, np.float64).tobytes())
    return sha.hexdigest()

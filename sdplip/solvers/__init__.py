"""Optimal scalings: problems as plain data, one solver a file, and `solve`, which chooses one.

Importing this package loads neither torch nor CVXPY: a solver's module is loaded when its name is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sdplip.solvers.auto import MixingThenInteriorPoint, solve
from sdplip.solvers.interval import Interval, prove
from sdplip.solvers.problems import ConvolutionMinTrace, MaxVolume, MinTrace, Nearest, Problem, ResidualLMI
from sdplip.solvers.solution import AbstractSolver, Progress, Solution, Status

if TYPE_CHECKING:
    from sdplip.solvers.cvxpy import CVXPY
    from sdplip.solvers.interior_point import InteriorPoint
    from sdplip.solvers.mixing import Mixing

__all__ = [
    "CVXPY",
    "AbstractSolver",
    "ConvolutionMinTrace",
    "InteriorPoint",
    "Interval",
    "MaxVolume",
    "MinTrace",
    "Mixing",
    "MixingThenInteriorPoint",
    "Nearest",
    "Problem",
    "Progress",
    "ResidualLMI",
    "Solution",
    "Status",
    "prove",
    "solve",
]

_HOMES = {
    "CVXPY": "sdplip.solvers.cvxpy",
    "InteriorPoint": "sdplip.solvers.interior_point",
    "Mixing": "sdplip.solvers.mixing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

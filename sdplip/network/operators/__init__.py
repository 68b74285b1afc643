"""What a network is made of: linear maps as operators, functions by name, sorting, maxima, lengths, sums, equilibria."""

from sdplip.network.operators.convolution import Convolution
from sdplip.network.operators.equilibrium import Equilibrium
from sdplip.network.operators.indices import Concatenate, Gather, Scatter, Sum
from sdplip.network.operators.linear import LARGEST, AbstractLinear, Dense, Diagonal, OnAxis, Transposed
from sdplip.network.operators.nonlinear import Activation, Grouped, Norms, Sort
from sdplip.network.operators.windows import Average, Maximum, pooling_windows

Operator = AbstractLinear | Sum | Concatenate | Activation | Sort | Norms | Grouped | Maximum | Equilibrium
"""The kinds of nodes. `Sum` and `Concatenate` take several values, the others one."""

__all__ = [
    "LARGEST",
    "AbstractLinear",
    "Activation",
    "Average",
    "Concatenate",
    "Convolution",
    "Dense",
    "Diagonal",
    "Equilibrium",
    "Gather",
    "Grouped",
    "Maximum",
    "Norms",
    "OnAxis",
    "Operator",
    "Scatter",
    "Sort",
    "Sum",
    "Transposed",
    "pooling_windows",
]

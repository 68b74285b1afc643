"""What the commands compute, as frozen data: nothing here prints, draws or reads a file."""

from sdplip.reports.check import CheckReport, LayerCheck, check
from sdplip.reports.compare import CompareReport, LayerComparison, ScalingRow, compare
from sdplip.reports.held import weights_of
from sdplip.reports.layer import Layer
from sdplip.reports.methods import AOL, IDENTITY, PERRON, SPECTRAL, Method, gershgorin, given, multi_step
from sdplip.reports.optimum import Objective, Optimum, min_trace, optimise
from sdplip.reports.scale import LayerScale, ScaleReport, save, scale

__all__ = [
    "AOL",
    "IDENTITY",
    "PERRON",
    "SPECTRAL",
    "CheckReport",
    "CompareReport",
    "Layer",
    "LayerCheck",
    "LayerComparison",
    "LayerScale",
    "Method",
    "Objective",
    "Optimum",
    "ScaleReport",
    "ScalingRow",
    "check",
    "compare",
    "gershgorin",
    "given",
    "min_trace",
    "multi_step",
    "optimise",
    "save",
    "scale",
    "weights_of",
]

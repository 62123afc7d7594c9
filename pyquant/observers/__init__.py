"""Observers: what calibration remembers of an edge, and how that becomes a scale.

Each keeps a fixed amount of state, updated in one C pass a batch, so that memory does not grow with the
number of samples. Those of several processes merge into what one process would have seen. A new one is a
class with `register_observer`, and its name in `pyquant.config`.
"""

from __future__ import annotations

from pyquant.observers.base import OBSERVERS, Observer, keep_dtypes, make_observer, register_observer
from pyquant.observers.channels import ChannelRange
from pyquant.observers.density import Density
from pyquant.observers.first import FirstValues
from pyquant.observers.hessian import HessianObserver
from pyquant.observers.kl import KLObserver
from pyquant.observers.least_error import LpObserver, MSEObserver, OMSEObserver
from pyquant.observers.ranges import EMAObserver, HistogramObserver, MinMaxObserver, PercentileObserver
from pyquant.observers.weights import (
    WEIGHT_SCALES,
    absmax_weight_scale,
    mse_weight_scale,
    omse_weight_scale,
)

__all__ = [
    "OBSERVERS",
    "WEIGHT_SCALES",
    "ChannelRange",
    "Density",
    "EMAObserver",
    "FirstValues",
    "HessianObserver",
    "HistogramObserver",
    "KLObserver",
    "LpObserver",
    "MSEObserver",
    "MinMaxObserver",
    "OMSEObserver",
    "Observer",
    "PercentileObserver",
    "absmax_weight_scale",
    "keep_dtypes",
    "make_observer",
    "mse_weight_scale",
    "omse_weight_scale",
    "register_observer",
]

"""Observers: what calibration remembers of an edge, and how that becomes a scale.

Each keeps a fixed amount of state, updated in one C pass a batch, so that memory does not grow with the
number of samples. A new one is a class with `register_observer`, and its name in `pyquant.config`.
"""

from __future__ import annotations

from pyquant.observers.base import OBSERVERS, Observer, keep_dtypes, make_observer, register_observer
from pyquant.observers.channels import ChannelRange
from pyquant.observers.density import Density
from pyquant.observers.ranges import (
    EMAObserver,
    HistogramObserver,
    MinMaxObserver,
    MSEObserver,
    PercentileObserver,
)
from pyquant.observers.weights import absmax_weight_scale, mse_weight_scale

__all__ = [
    "OBSERVERS",
    "ChannelRange",
    "Density",
    "EMAObserver",
    "HistogramObserver",
    "MSEObserver",
    "MinMaxObserver",
    "Observer",
    "PercentileObserver",
    "absmax_weight_scale",
    "keep_dtypes",
    "make_observer",
    "mse_weight_scale",
    "register_observer",
]

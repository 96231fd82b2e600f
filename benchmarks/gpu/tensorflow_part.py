"""TensorFlow's part: the op against TensorFlow's own ways to do the second part's step."""

from __future__ import annotations

import gc
from collections.abc import Container

import keras

from benchmarks.gpu import costs
from benchmarks.gpu.cases import Case
from benchmarks.gpu.results import Record
from benchmarks.gpu.run import Factory, compare_candidates
from benchmarks.gpu.tensorflow_device import TensorFlowDevice
from benchmarks.gpu.tensorflow_paths import PATHS, TensorFlowStep, make_inputs, make_variables
from benchmarks.gpu.timing import ROUNDS


class TensorFlowComparison:
    """Implements run.Comparison."""

    def __init__(
        self,
        device: TensorFlowDevice,
        limits: costs.Limits,
        absent: Container[str] = (),
        rounds: int = ROUNDS,
    ) -> None:
        self._device = device
        self._limits = limits
        self._rounds = rounds

    def __call__(self, case: Case) -> Record:
        x, seed = make_inputs(case)

        def factory(path: str) -> Factory:
            return lambda: TensorFlowStep(self._device, case, path, x, seed)

        with self._device.precision(case.precision):
            factories = {path: factory(path) for path in PATHS}
            results = compare_candidates(
                self._device, case, factories, make_variables(case), 1, self._rounds
            )
        keras.backend.clear_session()
        gc.collect()
        return Record(case, results, costs.floor(case, self._limits))

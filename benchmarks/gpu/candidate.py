"""What is compared: one way to do a case's step."""

from __future__ import annotations

import abc

from benchmarks.gpu import timing
from benchmarks.gpu.cases import Case
from benchmarks.gpu.device import Array, Device, Work
from benchmarks.gpu.input_sets import InputSet


class Absent(Exception):
    """A way that can't be had here; the message says why."""


class Candidate(abc.ABC):
    """One way to do the step.

    Attributes:
        how: What its times are read from, and other circumstances; complete after `prepare`.
        block_seconds: At least this much is timed at once.
    """

    how: str
    block_seconds = timing.BLOCK_SECONDS

    @abc.abstractmethod
    def run(self, index: int) -> None:
        """Enqueues the step of one input set."""

    @abc.abstractmethod
    def set_rate(self, rate: float) -> None:
        """Sets the learning rate of the steps to come."""

    @abc.abstractmethod
    def load(self, variables: list[Array]) -> None:
        """Gives the first set's variables these values."""

    @abc.abstractmethod
    def variables(self) -> list[Array]:
        """The first set's variables as they are, in arrays of the device."""

    @abc.abstractmethod
    def prepare(self) -> Work:
        """Warms up; returns what runs the steps of all sets."""

    @abc.abstractmethod
    def seconds(self, work: Work) -> float:
        """How long the work takes, by the candidate's clock."""

    @abc.abstractmethod
    def peak_bytes(self) -> int | None:
        """The most memory that a step takes beyond weights, state and inputs; None: unknown."""


class SetsCandidate(Candidate):
    """Works in the input sets' own memory, on the device's current stream."""

    def __init__(self, device: Device, case: Case, sets: list[InputSet]) -> None:
        self.device = device
        self.case = case
        self.sets = sets
        self.how = device.clock

    def load(self, variables: list[Array]) -> None:
        for variable, value in zip(self.sets[0].variables(), variables, strict=True):
            self.device.assign(variable, value)

    def variables(self) -> list[Array]:
        return self.sets[0].variables()

    def prepare(self) -> Work:
        try:
            repeat = self.device.capture(self.run_all)
        except RuntimeError as error:
            self.device.synchronize()
            self.how += f", not captured ({str(error).splitlines()[0]})"
            self.run_all()
            return self.run_all
        if repeat != self.run_all:
            self.how += ", CUDA graph"
        return repeat

    def run_all(self) -> None:
        """Enqueues the steps of all sets."""
        for index in range(len(self.sets)):
            self.run(index)

    def seconds(self, work: Work) -> float:
        return self.device.seconds(work)

    def peak_bytes(self) -> int | None:
        return self.device.peak_bytes(lambda: self.run(0))

"""What has to run before a step writes a variable."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

from splitop._src.graph import reach
from splitop._src.graph.gradient_graph import GradientGraph
from splitop._src.reference import Reference
from splitop._src.validate import Call
from splitop._src.xla import in_xla

# Ops whose output is their input's memory.
SAME_MEMORY = frozenset({"ExpandDims", "Identity", "Reshape", "Squeeze", "StopGradient"})


class WriteOrder:
    """The readers of variables in one step.

    The whole step sees the old values: a TF1 graph orders nothing by itself. And while a value
    that was read is still in use, TensorFlow would copy the variable before it is written.
    """

    def __init__(
        self,
        call: Call,
        reference: Reference,
        gradients: GradientGraph,
        needed: frozenset[Any],
        given: Iterable[Any],
        replaced: Iterable[Any],
    ):
        """Collects what the step may run besides its updates: the forward pass, the gradients.

        Args:
            call: The step.
            reference: Its plain gradients.
            gradients: The graph of these.
            needed: The gradient ops that have to run.
            given: What the fused ops take.
            replaced: Tensors of the plain gradients that fused ops compute instead.
        """
        self._graph = call.graph
        self._guards = list(gradients.guards)
        self._running = needed | gradients.kept
        raw = [seed.raw for seed in reference.checked.seeds]
        forward = reach.ancestors([*call.ivs, *raw], control=True)
        self._step = frozenset(forward) | self._running
        if in_xla(call.graph):
            # Its order is that of values alone: the forward pass has to be named, too, as far as it
            # has to run.
            inputs = [tensor for op in self._running for tensor in op.inputs]
            self._running |= reach.ancestors([*given, *inputs], stop=replaced).keys()

    def add_guards(self, ops: Sequence[Any]) -> None:
        """Has further ops that may fail run before any variable is written."""
        self._guards += ops

    def readers(self, variable: Any) -> list[Any]:
        """The ops of the step that read a variable."""
        context = self._graph._get_control_flow_context()
        return [
            op
            for op in reach.handle(self._graph, variable).consumers()
            if op in self._step and op._get_control_flow_context() is context
        ]

    def readings(self, variable: Any) -> list[Any]:
        """The ops that read a variable; of a reference variable, all that work on its memory, too.

        A resource variable that is written while its old value is in use gets another buffer.
        """
        readers = self.readers(variable)
        if reach.is_resource(variable):
            return readers
        needed = reach.ancestors([tensor for op in self._running for tensor in op.inputs])
        return readers + [op for op in _users(readers) if op in self._running or op in needed]

    def before_update(self, variables: Iterable[Any], later: Container[Any] = ()) -> list[Any]:
        """What has to run before `variables` are written.

        All that may fail, so that a step is done as a whole or not at all; the readers; and
        the ops that work on what these have read.

        Args:
            variables: The variables.
            later: Ops that can't run before the update: they work on a copy of the variable.
        """
        before = list(self._guards)
        for variable in variables:
            readers = self.readers(variable)
            before += readers
            before += [op for op in _users(readers) if op in self._running and op not in later]
        return before


def _users(readers: Sequence[Any]) -> list[Any]:
    """The ops that use what `readers` have read, and so hold the variable's memory."""
    users: list[Any] = []
    stack = list(readers)
    while stack:
        for tensor in stack.pop().outputs:
            for op in tensor.consumers():
                (stack if op.type in SAME_MEMORY else users).append(op)
    return users

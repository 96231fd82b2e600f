"""The second part as two functions: its forward pass, and the step that goes back from there."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.function import function
from splitop._src.graph import reach
from splitop._src.graph.devices import on_host_of
from splitop._src.graph.handover import Handover, hand_over
from splitop._src.graph.portion import copy_portion, portion
from splitop._src.planner import Plan
from splitop._src.stash import Stash
from splitop._src.validate import Trainable


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """A step in one graph, as the user's code and the planner build it.

    Attributes:
        iv: What the forward pass computes, in the user's structure.
        seeds: Placeholders of dL/dIV.
        variables: Those that the step trains.
        plan: What trains them.
        forward_end: How many operations the graph had after the forward pass.
    """

    iv: Any
    seeds: tuple[Any, ...]
    variables: tuple[Trainable, ...]
    plan: Plan
    forward_end: int


class SecondRun:
    """The two functions of one input signature.

    The step is built in one graph, which never runs. Of this the forward function takes the
    operations of the forward pass, and the step function the rest.

    Attributes:
        plan: What trains the variables.
        iv: The intermediate vectors in the graph that never runs, in the user's structure.
    """

    def __init__(self, trace: Callable[[Any], Traced], inputs: Any, recompute: bool):
        """Builds the graph.

        Args:
            trace: Builds the step in the current graph, on placeholders.
            inputs: A nested structure of tf.TypeSpec.
            recompute: Whether the step computes the forward pass again.
        """
        traced: dict[Any, Traced] = {}

        def build(x: Any) -> None:
            traced[tf.compat.v1.get_default_graph()] = trace(x)

        concrete = tf.function(build).get_concrete_function(inputs)
        # It keeps alive what the operations refer to: Python functions, say.
        self._concrete = concrete
        self._graph = concrete.graph
        step = traced[self._graph]
        self.plan, self.iv, self._seeds = step.plan, step.iv, step.seeds
        self._variables = step.variables
        operations = self._graph.get_operations()
        before, added = operations[: step.forward_end], operations[step.forward_end :]
        effects = set(self._graph.control_outputs)
        self._effects = [op for op in before if op in effects]
        step_ops = [op for op in added if op in effects]
        self._handover = self._hand_over(step_ops, before, added, recompute)
        self._stash = Stash(self._handover.kept, () if recompute else step.variables)
        weakref.finalize(self, self._stash.clear_now).atexit = False
        seeds = [tf.TensorSpec(seed.shape, seed.dtype) for seed in self._seeds]
        # As relaxed as the forward pass: not a graph for each shape.
        self.step = function(self._step, input_signature=[seeds], autograph=False)

    def forward(self, inputs: Sequence[Any]) -> list[Any]:
        """Adds the forward pass to the current graph, and keeps what the step needs.

        Returns:
            The intermediate vectors, flat.
        """
        ivs = tf.nest.flatten(self.iv)
        own = self._graph.inputs[: len(inputs)]
        known = self._captured() | {t.ref(): now for t, now in zip(own, inputs, strict=True)}
        wanted = [*ivs, *self._handover.kept]
        sources = {ref.deref().op for ref in known}
        targets = [*self._effects, *(tensor.op for tensor in wanted)]
        work = portion(targets, _AllBut(sources))
        with self._on_host():
            _, now = copy_portion(work, known)
            now |= known
            self._stash.put([now[tensor.ref()] for tensor in self._handover.kept])
        return [now[tensor.ref()] for tensor in ivs]

    def forget(self) -> None:
        """Forgets what the forward function has kept."""
        self._stash.clear_now()

    def _step(self, seeds: Sequence[Any]) -> None:
        known = self._captured()
        known |= {own.ref(): now for own, now in zip(self._seeds, seeds, strict=True)}
        with self._on_host():
            taken = self._stash.take()
            known |= {
                own.ref(): now for own, now in zip(self._handover.kept, taken.tensors, strict=True)
            }
            copy_portion(self._handover.work, known, taken.after)

    def _on_host(self) -> contextlib.AbstractContextManager[None]:
        return on_host_of(item.variable for item in self._variables)

    def _hand_over(
        self, step: Sequence[Any], before: Sequence[Any], added: Sequence[Any], recompute: bool
    ) -> Handover:
        captured = [internal for _, internal in self._graph.captures]
        # Of what the step has added, a loop of the forward pass may need something.
        ivs = tf.nest.flatten(self.iv)
        forward = set(before) | reach.ancestors(ivs, control=True).keys()
        return hand_over(
            step,
            added,
            forward,
            trained=[reach.handle(self._graph, item.variable) for item in self._variables],
            given=[*self._seeds, *captured],
            recompute=recompute,
        )

    def _captured(self) -> dict[Any, Any]:
        """What the graph has taken from outside: variables, mostly."""
        return {internal.ref(): external for external, internal in self._graph.captures}


@dataclasses.dataclass(frozen=True)
class _AllBut:
    """All operations but some."""

    others: set[Any]

    def __contains__(self, op: Any) -> bool:
        return op not in self.others

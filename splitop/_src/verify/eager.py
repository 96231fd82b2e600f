"""A split model of eager variables: Keras models, or any functions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from splitop._src.errors import SplitError
from splitop._src.names import unique_variable_names
from splitop._src.optimizers.base import tf_variable
from splitop._src.planner import Plan
from splitop._src.validate import check_iv, check_variables
from splitop._src.verify import rounding
from splitop._src.verify.comparison import Run
from splitop._src.verify.inspection import Inspection, inspect, split_of
from splitop._src.verify.optimizer_copy import eager_copy, state_of
from splitop._src.verify.split import Forward, reads
from splitop._src.verify.state import State, python_state_kept
from splitop._src.verify.step import Step, build_step

do_not_convert = tf.autograph.experimental.do_not_convert

# Random operations without a seed would give each run other numbers.
SEED = 1


class EagerModel:
    """What is verified. Its variables are trained in place, and put back."""

    def __init__(
        self,
        forward: Callable[[Any, Any], Forward],
        x: Any,
        y: Any,
        *,
        first: Sequence[Any] | None,
        second: Sequence[Any] | None,
        trainable: Sequence[Any],
        state: Sequence[Any],
        layers: Sequence[Any],
        keeps_penalties: bool,
    ) -> None:
        """Takes the pieces.

        Args:
            forward: Gives the forward pass of `x` and `y`; runs inside a tf.function.
            x: The batch: a nested structure of arrays or tensors.
            y: The same for the loss, or None.
            first: The first part's variables; None: those of `trainable` that `iv` is not
                computed from.
            second: The second part's; None: the others.
            trainable: All trainable variables that are known.
            state: All variables that are known.
            layers: Keras layers, whose `losses` tracing changes.
            keeps_penalties: Whether the second part's step minimizes its own penalties.
        """
        self._forward = forward
        self._batch = (_tensors(x), _tensors(y))
        self._first, self._second = first, second
        self._trainable = list(trainable)
        self._state_variables = list(state)
        self._layers = layers
        self._keeps_penalties = keeps_penalties
        self._inspection: Inspection | None = None
        self._state: State | None = None
        self.names: tuple[str, ...] = ()
        self.plans: tuple[Plan, ...] = ()

    @contextlib.contextmanager
    def opened(self, optimizers: Sequence[Any]) -> Iterator[Inspection]:
        """Inspects the graph; puts all state back in the end, however that comes."""
        with python_state_kept(self._layers):
            inspection, handles = self._inspect()
            self._inspection = inspection
            known = [
                *self._state_variables,
                *self._trainable,
                *(self._first or ()),
                *(self._second or ()),
            ]
            known += [variable for optimizer in optimizers for variable in state_of(optimizer)]
            handles += [tf_variable(variable).handle for variable in known]
            self._state = State(handles)
            try:
                yield inspection
            finally:
                self._state.restore()

    def run(
        self,
        path: str,
        steps: int,
        optimizers: tuple[Any, Any] | None,
        random: np.random.Generator | None = None,
    ) -> Run:
        """Trains from the user's state.

        Args:
            path: See `step.build_step`.
            steps: How many steps.
            optimizers: The user's; None: gradients are computed, and nothing is updated.
            random: Moves the start by rounding; None: nothing does.
        """
        assert self._state is not None
        self._state.restore()
        first, second = self._trained()
        copies = optimizers and (
            eager_copy(optimizers[0], first),
            eager_copy(optimizers[1], second),
        )

        built: list[Step] = []

        @do_not_convert
        def build(forward: Forward) -> Any:
            graph = tf.compat.v1.get_default_graph()
            split = split_of(forward, first, second, self._keeps_penalties, graph)
            step = build_step(path, split, copies)
            built.append(step)
            with tf.control_dependencies([] if step.run is None else [step.run]):
                gradients = [[tf.identity(g) for g in of] for of in (step.joint, step.split)]
                # Of a function without a result TensorFlow prunes nothing, and then can't run what
                # tf.gradients leaves behind.
                return tf.identity(forward.loss), *gradients

        forward = self._seeded_forward

        @tf.function
        def step(x: Any, y: Any) -> Any:
            return build(forward(x, y))

        step.get_concrete_function(*self._batch)
        slots = [variable for optimizer in copies or () for variable in state_of(optimizer)]
        self.names = unique_variable_names([*second, *first, *slots])
        variables = [tf_variable(variable) for variable in (*second, *first, *slots)]
        self.plans = built[-1].plans
        if random is not None:
            assert self._inspection is not None
            start, error = _values(variables), self._inspection.error
            moved = rounding.moved_start(start, len(second) + len(first), error, random)
            for variable, value in zip(variables, moved, strict=True):
                variable.assign(value)
        run = Run(_values(variables), [], [], [], [])
        for _ in range(steps):
            loss, joint, split = step(*self._batch)
            run.losses.append(_array(loss))
            run.joint.append([_array(gradient) for gradient in joint])
            run.split.append([_array(gradient) for gradient in split])
            run.values.append(_values(variables))
        return run

    def _seeded_forward(self, x: Any, y: Any) -> Forward:
        _set_seed()
        return self._forward(x, y)

    def _inspect(self) -> tuple[Inspection, list[Any]]:
        found: list[Inspection] = []

        @do_not_convert
        def look(forward: Forward) -> None:
            graph = tf.compat.v1.get_default_graph()
            ops = graph.get_operations()
            trainable = _with_watched(graph, self._trainable)
            self._partition(graph, forward)
            found.append(
                inspect(
                    forward,
                    self._first or (),
                    self._second or (),
                    keeps_penalties=self._keeps_penalties,
                    trainable=trainable,
                    known=[*self._state_variables, *trainable],
                    ops=ops,
                )
            )

        forward = self._seeded_forward

        @tf.function
        def trace(x: Any, y: Any) -> None:
            look(forward(x, y))

        graph = trace.get_concrete_function(*self._batch).graph
        captured = [outside for outside, _ in graph.captures if outside.dtype == tf.resource]
        return found[-1], captured

    def _partition(self, graph: Any, forward: Forward) -> None:
        """Finds out which part has which variable, where that was not said."""
        if self._first is not None and self._second is not None:
            return
        try:
            ivs = check_iv(forward.iv, graph)
            items = check_variables(self._trainable, graph)
        except SplitError:
            return  # The inspection says so.
        below = [item.given for item in items if reads(graph, item, ivs)]
        known = {id(variable) for variable in below}
        self._second = below
        self._first = [item.given for item in items if id(item.given) not in known]

    def _trained(self) -> tuple[list[Any], list[Any]]:
        assert self._inspection is not None
        assert self._first is not None
        assert self._second is not None
        return (
            [self._first[index] for index in self._inspection.first],
            [self._second[index] for index in self._inspection.second],
        )


def _with_watched(graph: Any, known: Sequence[Any]) -> list[Any]:
    """The variables that are known, and other trainable ones that the graph has used so far."""
    ids = {id(tf_variable(variable)) for variable in known}
    watched = [v for v in graph._watched_variables if v.trainable and id(v) not in ids]
    return [*known, *sorted(watched, key=lambda variable: str(variable.name))]


@do_not_convert
def _set_seed() -> None:
    graph = tf.compat.v1.get_default_graph()
    if graph.seed is None:
        graph.seed = SEED


def _tensors(batch: Any) -> Any:
    if batch is None:
        return None
    return tf.nest.map_structure(
        lambda leaf: leaf if tf.is_tensor(leaf) else tf.convert_to_tensor(leaf), batch
    )


def _array(value: Any) -> np.ndarray:
    return np.array(value.numpy(), copy=True)


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    return [_array(variable) for variable in variables]

"""A split model in a TF1 graph, verified on copies of the graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from splitop._src.errors import SplitError
from splitop._src.graph import reach
from splitop._src.names import describe, tensor_name, unique_variable_names
from splitop._src.optimizers.base import tf_variable
from splitop._src.planner import Plan
from splitop._src.verify import rounding
from splitop._src.verify.comparison import Run
from splitop._src.verify.graph_copy import config, exported, imported, initialize, load
from splitop._src.verify.inspection import Inspection, inspect, split_of
from splitop._src.verify.optimizer_copy import (
    TF1_OPTIMIZER,
    fresh_keras,
    graph_copy,
    graph_variables,
    state_of,
    variable_in,
)
from splitop._src.verify.report import ERROR, WARNING, Finding
from splitop._src.verify.split import Forward
from splitop._src.verify.state_pitfalls import moving_statistics
from splitop._src.verify.step import build_step

tf1 = tf.compat.v1

Values = dict[str, np.ndarray]


class GraphModel:
    """What is verified. The user's graph and session are only read."""

    def __init__(
        self,
        loss: Any,
        iv: Any,
        first: Sequence[Any],
        second: Sequence[Any],
        feed_dict: Mapping[Any, Any] | None,
        session: Any,
    ) -> None:
        """Takes the pieces.

        Args:
            loss: The loss, a tensor of a tf.Graph.
            iv: The intermediate vector, or a nested structure of them.
            first: The first part's variables.
            second: The second part's.
            feed_dict: Values of tensors of the graph: the batch.
            session: Where the variables have their values; None: they start from their
                initializers.

        Raises:
            SplitError: Something does not belong to one TF1 graph, or is not fed.
        """
        self._loss, self._iv = loss, iv
        self._graph = _graph_of(loss)
        self._first = [tf_variable(variable) for variable in first]
        self._second = [tf_variable(variable) for variable in second]
        self._feeds = {
            _tensor_of(self._graph, key): np.asarray(value)
            for key, value in (feed_dict or {}).items()
        }
        self._session = session
        self._inspection: Inspection | None = None
        self._values: Values = {}
        self.names: tuple[str, ...] = ()
        self.plans: tuple[Plan, ...] = ()
        _check_fed(self._graph, [loss, *tf.nest.flatten(iv)], self._feeds)
        shapes = {tensor.op.name: value.shape for tensor, value in self._feeds.items()}
        self._meta = exported(self._graph, shapes)

    @contextlib.contextmanager
    def opened(self, optimizers: Sequence[Any]) -> Iterator[Inspection]:
        """Reads the values and inspects a copy of the graph."""
        self._values = self._read_values(optimizers)
        self._inspection = self._inspect()
        yield self._inspection

    def run(
        self,
        path: str,
        steps: int,
        optimizers: tuple[Any, Any] | None,
        random: np.random.Generator | None = None,
    ) -> Run:
        """Trains in a copy of the graph and a session of its own: see `EagerModel.run`."""
        assert self._inspection is not None
        with self._imported() as graph:
            first = [variable_in(graph, self._first[at]) for at in self._inspection.first]
            second = [variable_in(graph, self._second[at]) for at in self._inspection.second]
            values = dict(self._values)
            copies = optimizers and (
                self._copied(optimizers[0], first, graph, values),
                self._copied(optimizers[1], second, graph, values),
            )
            split = split_of(self._forward(graph), first, second, True, graph)
            step = build_step(path, split, copies)
            self.plans = step.plans
            slots = [variable for optimizer in copies or () for variable in state_of(optimizer)]
            self.names = unique_variable_names([*second, *first, *slots])
            slots = [tf_variable(variable) for variable in slots]
            variables = [*second, *first, *slots]
            feeds = {graph.get_tensor_by_name(t.name): v for t, v in self._feeds.items()}
            with tf1.Session(graph=graph, config=config()) as session:
                initialize(session, graph, slots, values)
                if random is not None:
                    start, error = session.run(variables), self._inspection.error
                    trained = len(second) + len(first)
                    moved = rounding.moved_start(start, trained, error, random)
                    load(session, zip(variables, moved, strict=True))
                run = Run(session.run(variables), [], [], [], [])
                updates = [] if step.run is None else step.run
                fetches = [split.loss, step.joint, step.split, updates]
                for _ in range(steps):
                    loss, joint, parts, _ = session.run(fetches, feeds)
                    run.losses.append(np.asarray(loss))
                    run.joint.append(joint)
                    run.split.append(parts)
                    run.values.append([np.asarray(v) for v in session.run(variables)])
        return run

    def _copied(self, optimizer: Any, variables: Any, graph: Any, values: Values) -> Any:
        if isinstance(optimizer, TF1_OPTIMIZER):
            return graph_copy(optimizer, self._graph, graph)
        made = fresh_keras(optimizer)
        made.build([*variables])
        for pair in zip(state_of(made), state_of(optimizer), strict=False):
            ours, theirs = (tf_variable(variable).name for variable in pair)
            if theirs in self._values:
                values[ours] = self._values[theirs]
        return made

    def _forward(self, graph: Any) -> Forward:
        def copied(tensor: Any) -> Any:
            return graph.get_tensor_by_name(tensor.name)

        return Forward(tf.nest.map_structure(copied, self._iv), copied(self._loss))

    def _inspect(self) -> Inspection:
        fed_ivs = [iv for iv in tf.nest.flatten(self._iv) if iv.ref() in _refs(self._feeds)]
        if fed_ivs:
            finding = Finding(
                ERROR,
                "iv is fed",
                ", ".join(tensor_name(iv) for iv in fed_ivs),
                "With a value fed for iv, the backward pass still runs through the second part, on "
                "the activations of another batch.",
                "Feed the inputs, and the seed's placeholder (SplitOps.iv_gradients_ph).",
            )
            return Inspection((finding,), tuple(tensor_name(iv) for iv in fed_ivs))
        with self._imported() as graph:
            found = inspect(
                self._forward(graph),
                [variable_in(graph, variable) for variable in self._first],
                [variable_in(graph, variable) for variable in self._second],
                keeps_penalties=True,
                trainable=graph.get_collection(tf1.GraphKeys.TRAINABLE_VARIABLES),
                known=graph_variables(graph),
                fed=[graph.get_tensor_by_name(tensor.name) for tensor in self._feeds],
            )
        more = (*self._collected_losses(), *self._collected_updates())
        return Inspection(**{**vars(found), "findings": (*found.findings, *more)})

    def _collected_losses(self) -> list[Finding]:
        used = reach.ancestors([self._loss])
        collected = self._graph.get_collection(tf1.GraphKeys.REGULARIZATION_LOSSES)
        names = [tensor_name(loss) for loss in collected if loss.op not in used]
        if not names:
            return []
        return [
            Finding(
                WARNING,
                "lost regularisation",
                ", ".join(names),
                f'It is collected in REGULARIZATION_LOSSES, but the loss "{self._loss.name}" is '
                "not computed from it: nothing minimizes it.",
                "Add the first part's penalties to the loss. Give the second part's to "
                "splitop.minimize besides iv: minimize(optimizer, [iv, penalty], variables, "
                "[seed, one]).",
            )
        ]

    def _collected_updates(self) -> list[Finding]:
        after = reach.descendants(tf.nest.flatten(self._iv))
        updates = [
            update if isinstance(update, tf.Operation) else update.op
            for update in self._graph.get_collection(tf1.GraphKeys.UPDATE_OPS)
        ]
        names = sorted({op.name for op in updates if op not in after})
        return [moving_statistics(", ".join(names))] if names else []

    def _imported(self) -> Any:
        return imported(self._meta, self._graph)

    def _read_values(self, optimizers: Sequence[Any]) -> Values:
        if self._session is None:
            with self._imported() as graph, tf1.Session(graph=graph, config=config()) as session:
                initialize(session, graph, [], {})
                variables = graph_variables(graph)
                values = session.run(variables)
            return {v.name: np.asarray(value) for v, value in zip(variables, values, strict=True)}
        values = {}
        trained = {variable.name for variable in (*self._first, *self._second)}
        with self._graph.as_default():
            slots = [tf_variable(v) for optimizer in optimizers for v in state_of(optimizer)]
        for variable in {v.name: v for v in [*graph_variables(self._graph), *slots]}.values():
            try:
                values[variable.name] = np.asarray(self._session.run(variable))
            except tf.errors.FailedPreconditionError:
                if variable.name in trained:
                    raise SplitError(
                        f'variable "{variable.name}" must have a value in the session: run '
                        "tf.compat.v1.global_variables_initializer(), or leave session out. "
                        "Received: an uninitialized variable."
                    ) from None
        return values


def _graph_of(loss: Any) -> Any:
    graph = getattr(loss, "graph", None) if isinstance(loss, tf.Tensor) else None
    if not isinstance(graph, tf.Graph) or graph.building_function:
        raise SplitError(
            "loss must be a tensor of a tf.Graph where iv is given; for Keras models and functions "
            "give second_part and first_part, or a model and its cut. "
            f"Received: {describe(loss)}."
        )
    return graph


def _tensor_of(graph: Any, key: Any) -> Any:
    try:
        tensor = graph.as_graph_element(key, allow_operation=False)
    except (KeyError, TypeError, ValueError) as error:
        raise SplitError(
            "the keys of feed_dict must be tensors of the loss's graph, or their names. "
            f"Received: {describe(key)}."
        ) from error
    return tensor


def _refs(tensors: Any) -> set[Any]:
    return {tensor.ref() for tensor in tensors}


def _check_fed(graph: Any, tensors: Sequence[Any], feeds: Any) -> None:
    for tensor in tensors:
        if not isinstance(tensor, tf.Tensor) or tensor.graph is not graph:
            raise SplitError(
                "iv must be a tensor of the loss's graph, or a nested structure of them. "
                f"Received: {describe(tensor)}."
            )
    missing = sorted(
        op.name
        for op in reach.ancestors(tensors, stop=list(feeds))
        if op.type == "Placeholder" and op.outputs[0].ref() not in _refs(feeds)
    )
    if missing:
        raise SplitError(
            "feed_dict must have a value for every placeholder that the loss is computed from. "
            f"Received: none for {', '.join(missing)}."
        )

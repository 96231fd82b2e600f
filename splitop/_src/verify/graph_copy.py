"""Copies of a TF1 graph, and sessions that run them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from splitop._src.verify.optimizer_copy import graph_variables

tf1 = tf.compat.v1

Values = Mapping[str, np.ndarray]

_SEEDS = ("seed", "seed2")


def exported(graph: Any, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """A graph as a MetaGraphDef, fit to be run several times with the same numbers.

    Args:
        graph: The graph.
        shapes: By the names of placeholders, the shapes of what they are fed.
    """
    with graph.as_default():
        meta = tf1.train.export_meta_graph(graph=graph)
    definition = meta.graph_def
    bodies = [node for body in definition.library.function for node in body.node_def]
    for number, node in enumerate([*definition.node, *bodies], 1):
        if all(name in node.attr and not node.attr[name].i for name in _SEEDS):
            node.attr["seed"].i = number  # Without a seed, each session has other numbers.
        if node.op.startswith("Placeholder") and node.name in shapes:
            node.attr["shape"].shape.CopyFrom(tf.TensorShape(shapes[node.name]).as_proto())
            node.attr.pop("_output_shapes", None)
    return meta


@contextlib.contextmanager
def imported(meta: Any, source: Any) -> Iterator[Any]:
    """A new graph, which is the default one: a copy of `source` from what was exported."""
    with tf.Graph().as_default() as graph:
        graph._graph_key = source._graph_key  # So that optimizers find their counters.
        tf1.train.import_meta_graph(meta)
        yield graph


def config() -> Any:
    """The configuration of a session of a copy."""
    return tf1.ConfigProto(allow_soft_placement=True)


def initialize(session: Any, graph: Any, slots: Sequence[Any], values: Values) -> None:
    """Gives all variables their values, or what their initializers give.

    Args:
        session: The session.
        graph: Its graph.
        slots: Variables that are in no collection of the graph.
        values: Values by name.
    """
    variables = {v.name: v for v in [*graph_variables(graph), *slots]}
    load(session, [(v, values[name]) for name, v in variables.items() if name in values])
    for name, variable in variables.items():
        if name not in values:
            session.run(variable.initializer)
    session.run(graph.get_collection(tf1.GraphKeys.TABLE_INITIALIZERS))


def load(session: Any, pairs: Iterable[tuple[Any, Any]]) -> None:
    """Writes values to variables, without adding to the graph."""
    values = list(pairs)
    feeds = {variable.initializer.inputs[1]: value for variable, value in values}
    session.run([variable.initializer for variable, _ in values], feeds)

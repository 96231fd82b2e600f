"""State besides the trained variables: iterators, queues, moving statistics."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src.graph import reach
from splitop._src.graph.nested import operations
from splitop._src.names import tensor_name, variable_name
from splitop._src.verify.randomness import is_random
from splitop._src.verify.report import NOTE, WARNING, Finding
from splitop._src.verify.stop import CannotRun

_SOURCES = re.compile(r"^Iterator.*GetNext|^OneShotIterator|^Queue.*(Dequeue|Enqueue)|^ReaderRead")
_TABLE_WRITES = re.compile(r"^LookupTable(Insert|Remove|Import)|^MutableHashTable|^(Un)?[Ss]tage")
_PYTHON = frozenset({"PyFunc", "EagerPyFunc", "PyFuncStateless"})


def check_sources(graph: Any, ops: Sequence[Any]) -> None:
    """Checks that the forward pass takes nothing that could not be put back.

    Raises:
        CannotRun: It does.
    """
    for found in operations(graph, ops):
        if _SOURCES.search(found.type):
            raise CannotRun(
                "iterator in the graph",
                found.name,
                f"{found.type} gives another batch whenever the forward pass runs, so that the "
                "runs that are compared here would train on different ones.",
                "Feed the batch here: by x and y, or by the iterator's tensors as keys of "
                "feed_dict. splitop itself trains both parts on one element; a loop of your own "
                "that runs the second part's forward pass twice must feed one batch to both.",
            )
        if _TABLE_WRITES.search(found.type):
            raise CannotRun(
                "state that can't be put back",
                found.name,
                f"{found.type} changes state that is no variable.",
                "Leave it out of the forward pass that is verified.",
            )


def moved_state(
    graph: Any, ops: Sequence[Any], ivs: Sequence[Any], known: Sequence[Any]
) -> list[Finding]:
    """Variables that the second part's forward pass writes, and Python code that it runs.

    Args:
        graph: The graph.
        ops: What the forward pass runs.
        ivs: The intermediate vectors.
        known: Variables, for their names.
    """
    before_cut = reach.ancestors(ivs)
    after_cut = reach.descendants(ivs)
    generators = {
        tensor.ref()
        for found in operations(graph, ops)
        if is_random(found)
        for op in reach.ancestors(found.op.inputs)
        for tensor in op.inputs
        if tensor.dtype == tf.resource
    }
    handles = {
        tensor.ref(): tensor
        for op in ops
        for tensor in op.inputs
        if tensor.dtype == tf.resource and tensor.ref() not in generators
    }
    names = []
    for handle in handles.values():
        writing = [op for op in reach.writers(handle) if op in set(ops)]
        if writing and not any(op in after_cut for op in writing):
            names.append(_name(graph, handle, known))
    result = []
    if names:
        result.append(moving_statistics(", ".join(sorted(set(names)))))
    python = sorted(f.name for f in operations(graph, before_cut) if f.type in _PYTHON)
    if python:
        result.append(
            Finding(
                NOTE,
                "Python code",
                ", ".join(python),
                "The second part runs Python code in its graph. What that changes outside of "
                "TensorFlow was not put back.",
                "Nothing, if it is a pure function; it runs once a forward pass.",
            )
        )
    return result


def moving_statistics(names: str) -> Finding:
    """The finding about variables that a forward pass moves."""
    return Finding(
        WARNING,
        "moving statistics",
        names,
        "Each forward pass of the second part moves it (BatchNormalization's averages, a layer's "
        "state). In splitop's steps it moves once: they run the forward pass once, or, with "
        'split_minimize(forward="recompute"), take it as the first run has moved it. A loop of '
        "your own that runs the forward pass twice moves it twice. Where it is the statistics of a "
        "batch, micro-batches have others than the whole batch.",
        "Nothing, if splitop does the steps (TF1: fetch UPDATE_OPS in one of the two runs only); "
        "in a loop of your own, run one of two forward passes with training=False.",
    )


def _name(graph: Any, handle: Any, known: Sequence[Any]) -> str:
    for variable in known:
        inner = variable if isinstance(variable, tf.Variable) else variable.value
        if reach.is_resource(inner) and reach.handle(graph, inner) is handle:
            return variable_name(variable)
    return tensor_name(handle)

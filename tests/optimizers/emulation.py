"""Training steps through an adapter, with the oracle's update in place of the fused op.

`run_in_graph` and `run_in_function` train through an adapter, `run_own` by the optimizer
alone, all from the same values with the same gradients. What they leave behind must be equal.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from splitop._src.optimizers import OptimizerAdapter, adapter_for
from splitop._src.optimizers.base import tf_variable
from tests import oracle

# Name, shape and dtype of the variables of a run, in the user's order. The two dtypes show
# that hyper() serves both; the table's gradient is a tf.IndexedSlices.
VARIABLES = (("kernel", (5, 3), "float64"), ("table", (6, 2), "float32"))
ROWS = (4, 1)
STEPS = 6  # one to leave zero state behind, five that count
# In names; "nadam/variable" is the product that Keras' Nadam keeps.
COUNTERS = ("global_step", "iteration", "_power", "learning_rate", "nadam/variable")


@dataclasses.dataclass(frozen=True)
class State:
    """All that a run left behind, by name."""

    weights: dict[str, np.ndarray]
    slots: dict[str, np.ndarray]
    counters: dict[str, np.ndarray]


def gradients(step: int) -> list[np.ndarray]:
    """A gradient for each of VARIABLES; the table's has a row for each of ROWS."""
    rng = np.random.default_rng(step)
    shapes = [(len(ROWS), *shape[1:]) if n == "table" else shape for n, shape, _ in VARIABLES]
    return [rng.normal(size=s).astype(v[2]) for s, v in zip(shapes, VARIABLES, strict=True)]


def make_variables(variable_type: type) -> list[Any]:
    """VARIABLES with non-zero values, as tf.Variable or keras.Variable objects."""
    rng = np.random.default_rng(7)
    return [
        variable_type(rng.normal(size=shape).astype(dtype), dtype=dtype, name=name)
        for name, shape, dtype in VARIABLES
    ]


def fused_update(
    adapter: OptimizerAdapter, gradient: tf.Tensor, variable: Any, hyper: tf.Tensor
) -> tf.Operation:
    """What the fused op does to one variable: the oracle's update, rounded once."""
    rule, decayed = adapter.rule(), adapter.decayed(variable)
    variables = (tf_variable(variable), *adapter.slots(variable))
    dtype = variables[0].dtype
    assert len(variables) == 1 + rule.num_slots
    assert all(v.dtype == dtype for v in variables)
    slot_shape = oracle.ALL_RULES[rule.name].slot_shape(tuple(variable.shape))
    assert all(v.shape == slot_shape for v in variables[1:])
    assert hyper.shape == [len(rule.hyper)]
    assert hyper.dtype == dtype

    def update(hyper: np.ndarray, g: np.ndarray, w: np.ndarray, *s: np.ndarray) -> list[np.ndarray]:
        value, slots = oracle.update(w, s, g, decayed, rule.name, hyper)
        return [array.astype(w.dtype) for array in (value, *slots)]

    before = [hyper, tf.convert_to_tensor(gradient), *(v.read_value() for v in variables)]
    after = tf.numpy_function(update, before, [dtype] * len(variables))
    return tf.group(*(v.assign(x, read_value=False) for v, x in zip(variables, after, strict=True)))


def adapter_step(
    optimizer: Any, pairs: Sequence[tuple[Any, Any]], fused: Sequence[str], global_step: Any
) -> tf.Operation:
    """One step through the adapter: the variables named in `fused` by the emulated op."""
    adapter = adapter_for(optimizer)
    adapter.prepare([variable for _, variable in pairs])
    hyper = functools.cache(adapter.hyper)
    updates, declined = [], []
    for gradient, variable in pairs:
        weight = tf_variable(variable)
        if weight.name.split("/")[-1].split(":")[0] in fused:
            updates.append(fused_update(adapter, gradient, variable, hyper(weight.dtype)))
        else:
            declined.append((gradient, variable))
    return adapter.finish(updates, declined, global_step)


def _pairs(tensors: Sequence[Any], variables: Sequence[Any]) -> list[tuple[Any, Any]]:
    slices = tf.IndexedSlices(tensors[-1], tf.constant(ROWS), tf.constant(VARIABLES[-1][1]))
    return list(zip([*tensors[:-1], slices], variables, strict=True))


def _state(variables: Sequence[Any], optimizer: Any, global_step: Any, read: Any) -> State:
    """The values; `read` takes a dict of tf.Variables."""
    weights = {v[0]: tf_variable(w) for v, w in zip(VARIABLES, variables, strict=True)}
    state = optimizer_variables(optimizer)
    values = read({"global_step": global_step, **weights, **state})
    counters = [n for n in values if any(c in n for c in COUNTERS)]
    return State(
        weights={n: values[n] for n in weights},
        slots={n: values[n] for n in state if n not in counters},
        counters={n: values[n] for n in counters},
    )


def optimizer_variables(optimizer: Any) -> dict[str, tf.Variable]:
    """The optimizer's variables by their names."""
    if isinstance(optimizer, tf.compat.v1.train.Optimizer):
        return {v.name: v for v in optimizer.variables()}
    return {v.path: v.value for v in optimizer.variables}


def _new_step_counter() -> tf.Variable:
    return tf.Variable(0, dtype=tf.int64, name="global_step", trainable=False)


MakeOptimizer = Callable[[tf.Variable], Any]


def run_own(make_optimizer: MakeOptimizer, variable_type: type = tf.Variable) -> State:
    """The reference: the optimizer by itself, eagerly."""
    keras.utils.clear_session(free_memory=False)  # Names start anew with every run.
    variables, global_step = make_variables(variable_type), _new_step_counter()
    optimizer = make_optimizer(global_step)
    for i in range(STEPS):
        optimizer.apply_gradients(_pairs([tf.constant(g) for g in gradients(i)], variables))
        global_step.assign_add(1)
    return _state(variables, optimizer, global_step, _numpy)


def run_in_graph(
    make_optimizer: MakeOptimizer, fused: Sequence[str], variable_type: type = tf.Variable
) -> State:
    """Through the adapter in a TF1 graph; all is created inside the graph."""
    keras.utils.clear_session(free_memory=False)
    with tf.Graph().as_default():
        variables, global_step = make_variables(variable_type), _new_step_counter()
        optimizer = make_optimizer(global_step)
        feeds = [tf.compat.v1.placeholder(g.dtype, g.shape) for g in gradients(0)]
        step = adapter_step(optimizer, _pairs(feeds, variables), fused, global_step)
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            for i in range(STEPS):
                session.run(step, dict(zip(feeds, gradients(i), strict=True)))
            return _state(variables, optimizer, global_step, session.run)


def run_in_function(
    make_optimizer: MakeOptimizer, fused: Sequence[str], variable_type: type = tf.Variable
) -> State:
    """Through the adapter in a tf.function; all is created eagerly."""
    return run_in_functions(make_optimizer, [fused], variable_type)


def run_in_functions(
    make_optimizer: MakeOptimizer,
    turns: Sequence[Sequence[str]],
    variable_type: type = tf.Variable,
) -> State:
    """As `run_in_function`, each step with what is fused by turns."""
    keras.utils.clear_session(free_memory=False)
    variables, global_step = make_variables(variable_type), _new_step_counter()
    optimizer = make_optimizer(global_step)

    def train(fused: Sequence[str], *tensors: tf.Tensor) -> None:
        adapter_step(optimizer, _pairs(tensors, variables), fused, global_step)

    functions = [tf.function(functools.partial(train, f), autograph=False) for f in turns]
    for i in range(STEPS):
        functions[i % len(functions)](*(tf.constant(g) for g in gradients(i)))
    return _state(variables, optimizer, global_step, _numpy)


RUNS = {"graph": run_in_graph, "function": run_in_function}


def _numpy(variables: dict[str, tf.Variable]) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in variables.items()}


def check_equal(actual: State, expected: State) -> None:
    """Counters to the bit, weights and slots to a few units in the last place."""
    for field in dataclasses.fields(State):
        got, want = getattr(actual, field.name), getattr(expected, field.name)
        assert list(got) == list(want)
        for name, value in want.items():
            if field.name == "counters":
                np.testing.assert_array_equal(got[name], value, name)
            else:
                check_close(got[name], value, name)


def check_close(actual: np.ndarray, expected: np.ndarray, name: str) -> None:
    """Equal to a few units in the last place."""
    tolerance = 8 * np.finfo(expected.dtype).eps
    # A small element may be what is left of terms as large as the others (Ftrl's linear slot).
    size = np.abs(expected).max(initial=1.0)
    np.testing.assert_allclose(actual, expected, tolerance, tolerance * size, err_msg=name)

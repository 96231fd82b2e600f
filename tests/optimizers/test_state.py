"""The optimizer's state: made as the optimizer would, and advanced once a step, at its end."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from splitop._src.errors import SplitError, VariableListError
from splitop._src.optimizers import adapter_for
from splitop._src.optimizers.base import tf_variable
from splitop.keras import RowwiseAdagrad
from tests.optimizers.emulation import adapter_step, optimizer_variables

v1 = tf.compat.v1.train
ko = keras.optimizers

OPTIMIZERS = pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: v1.GradientDescentOptimizer(0.1), id="tf1-sgd"),
        pytest.param(lambda: v1.MomentumOptimizer(0.1, 0.9), id="tf1-momentum"),
        pytest.param(lambda: v1.AdamOptimizer(), id="tf1-adam"),
        pytest.param(lambda: v1.AdagradOptimizer(0.1), id="tf1-adagrad"),
        pytest.param(lambda: v1.RMSPropOptimizer(0.1), id="tf1-rmsprop"),
        pytest.param(lambda: v1.RMSPropOptimizer(0.1, centered=True), id="tf1-rmsprop-centered"),
        pytest.param(lambda: v1.AdadeltaOptimizer(), id="tf1-adadelta"),
        pytest.param(lambda: v1.FtrlOptimizer(0.1), id="tf1-ftrl"),
        pytest.param(lambda: ko.SGD(), id="keras-sgd"),
        pytest.param(lambda: ko.SGD(momentum=0.9), id="keras-momentum"),
        pytest.param(lambda: ko.AdamW(), id="keras-adamw"),
        pytest.param(lambda: ko.AdamW(amsgrad=True), id="keras-amsgrad"),
        pytest.param(lambda: ko.Adagrad(), id="keras-adagrad"),
        pytest.param(lambda: ko.RMSprop(), id="keras-rmsprop"),
        pytest.param(lambda: ko.RMSprop(momentum=0.9, centered=True), id="keras-rmsprop-all"),
        pytest.param(lambda: ko.Adadelta(), id="keras-adadelta"),
        pytest.param(lambda: ko.Adamax(), id="keras-adamax"),
        pytest.param(lambda: ko.Nadam(), id="keras-nadam"),
        pytest.param(lambda: ko.Ftrl(), id="keras-ftrl"),
        pytest.param(lambda: ko.Lion(), id="keras-lion"),
        pytest.param(lambda: RowwiseAdagrad(), id="keras-rowwise-adagrad"),
        pytest.param(
            lambda: ko.Nadam(use_ema=True, ema_overwrite_frequency=2), id="keras-averaged"
        ),
    ],
)
BOTH_ADAMS = pytest.mark.parametrize(
    "make", [lambda: v1.AdamOptimizer(), lambda: ko.Adam()], ids=["tf1", "keras"]
)

Apply = Callable[[Any, Sequence[tuple[Any, Any]]], None]


def _own(optimizer: Any, pairs: Sequence[tuple[Any, Any]]) -> None:
    optimizer.apply_gradients(pairs)


def _mixed(optimizer: Any, pairs: Sequence[tuple[Any, Any]]) -> None:
    adapter_step(optimizer, pairs, ["a"], None)


def _pairs(variable_type: type = tf.Variable) -> list[tuple[Any, Any]]:
    variables = [variable_type(np.ones(2, np.float32), name=name) for name in ("b", "a")]
    return [(tf.constant([1.0, 2.0]), v) for v in variables]


# --- names and checkpoint keys


def _state_in_graph(make: Callable[[], Any], apply: Apply) -> list[tuple[str, Any]]:
    """Names and initial values of all variables, in the order of their creation."""
    keras.utils.clear_session(free_memory=False)
    with tf.Graph().as_default():
        with tf.name_scope("mine"):
            pairs = _pairs()
            for _ in range(2):  # Two optimizers of one name.
                apply(make(), pairs)
            tf.compat.v1.Variable(0.0, name="learning_rate")  # Not to be renamed by ours.
        variables = tf.compat.v1.global_variables()
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            values = session.run(variables)
        return [(v.name, value.tolist()) for v, value in zip(variables, values, strict=True)]


@OPTIMIZERS
def test_state_in_a_graph(make: Callable[[], Any]) -> None:
    assert _state_in_graph(make, _mixed) == _state_in_graph(make, _own)


def _checkpoint_keys(
    make: Callable[[], Any], apply: Apply, variable_type: type, folder: pathlib.Path
) -> list[Any]:
    keras.utils.clear_session(free_memory=False)
    optimizer, pairs = make(), _pairs(variable_type)

    @tf.function(autograph=False)
    def train() -> None:
        apply(optimizer, pairs)

    train()
    checkpoint = tf.train.Checkpoint(optimizer=optimizer, a=pairs[0][1], b=pairs[1][1])
    keys = tf.train.list_variables(checkpoint.save(str(folder / apply.__name__)))
    return [keys, [(name, v.name) for name, v in optimizer_variables(optimizer).items()]]


@OPTIMIZERS
def test_checkpoint_keys(make: Callable[[], Any], tmp_path: pathlib.Path) -> None:
    expected = _checkpoint_keys(make, _own, tf.Variable, tmp_path)
    assert _checkpoint_keys(make, _mixed, tf.Variable, tmp_path) == expected


def test_checkpoint_keys_of_keras_variables(tmp_path: pathlib.Path) -> None:
    expected = _checkpoint_keys(ko.AdamW, _own, keras.Variable, tmp_path)
    assert _checkpoint_keys(ko.AdamW, _mixed, keras.Variable, tmp_path) == expected


# --- slots


@BOTH_ADAMS
@pytest.mark.parametrize("variable_type", [tf.Variable, keras.Variable])
def test_slots(make: Callable[[], Any], variable_type: type) -> None:
    optimizer, pairs = make(), _pairs(variable_type)
    variables = [v for _, v in pairs]
    adapter = adapter_for(optimizer)
    tf.function(lambda: adapter.prepare(variables), autograph=False)()
    names = ("m", "v") if isinstance(optimizer, v1.Optimizer) else ("momentum", "velocity")
    for variable in variables:
        slots = adapter.slots(variable)
        assert all(isinstance(slot, tf.Variable) and slot.shape == [2] for slot in slots)
        if isinstance(optimizer, v1.Optimizer):
            expected = [optimizer.get_slot(tf_variable(variable), name) for name in names]
        else:
            expected = [
                next(v.value for v in optimizer.variables if v.path.endswith(f"{key}_{name}"))
                for key in [variable.name.replace(":", "_")]
                for name in names
            ]
        assert all(slot is e for slot, e in zip(slots, expected, strict=True))


@OPTIMIZERS
def test_retracing_makes_no_second_slots(make: Callable[[], Any]) -> None:
    optimizer, pairs = make(), _pairs()
    same_optimizer, same_pairs = make(), _pairs()
    traces = []

    @tf.function(autograph=False)
    def train(scale: float) -> None:
        traces.append(scale)
        adapter_step(optimizer, [(g * scale, v) for g, v in pairs], ["a"], None)

    state = set()
    for scale in (1.0, 0.5):  # Two Python numbers: two traces.
        train(scale)
        same_optimizer.apply_gradients([(g * scale, v) for g, v in same_pairs])
        names_and_ids = {(n, id(v)) for n, v in optimizer_variables(optimizer).items()}
        assert state in (set(), names_and_ids)
        state = names_and_ids
    assert set(traces) == {1.0, 0.5}
    for (_, variable), (_, same) in zip(pairs, same_pairs, strict=True):
        np.testing.assert_allclose(variable, same, rtol=1e-6)


def test_optimizer_built_by_the_user_for_more_variables() -> None:
    (gradient, first), (_, second) = _pairs()
    optimizer = ko.Adam()
    optimizer.build([first, second])
    before = [id(v) for v in optimizer.variables]
    tf.function(lambda: _mixed(optimizer, [(gradient, second)]), autograph=False)()
    assert [id(v) for v in optimizer.variables] == before
    assert optimizer.iterations.numpy() == 1
    assert second.numpy()[0] != 1.0
    assert first.numpy()[0] == 1.0


# --- the rest of a step of Keras

MakePairs = Callable[[], Sequence[tuple[Any, Any]]]


def _after_three_steps(train: Any, optimizer: Any, pairs: Sequence[tuple[Any, Any]]) -> Any:
    """What `train`, a function or an operation, leaves behind."""
    state = [tf_variable(v) for v in (*(v for _, v in pairs), *optimizer.variables)]
    if not isinstance(train, tf.Operation):
        for _ in range(3):
            train()
        return [v.numpy() for v in state]
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        for _ in range(3):
            session.run(train)
        return session.run(state)


def _check_everywhere(make: Callable[[], Any], make_pairs: MakePairs, fused: Sequence[str]) -> None:
    """Compares steps in a tf.function and in a graph with the optimizer's own."""
    optimizer, pairs = make(), make_pairs()
    optimizer.build([v for _, v in pairs])
    expected = _after_three_steps(lambda: optimizer.apply_gradients(pairs), optimizer, pairs)

    optimizer, pairs = make(), make_pairs()
    optimizer.build([v for _, v in pairs])

    @tf.function(autograph=False)
    def train() -> None:
        adapter_step(optimizer, pairs, fused, None)

    received = [_after_three_steps(train, optimizer, pairs)]
    with tf.Graph().as_default():
        optimizer, pairs = make(), make_pairs()
        step = adapter_step(optimizer, pairs, fused, None)
        received.append(_after_three_steps(step, optimizer, pairs))
    for values in received:
        for got, want in zip(values, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("fused", [["a"], []])
def test_averages_overwrite_before_constraints(fused: list[str]) -> None:
    def make_pairs() -> list[tuple[Any, Any]]:
        a = tf.Variable([2.0, 3.0], name="a")
        b = tf.Variable([0.3, 0.1], name="b", constraint=lambda v: tf.maximum(v, 0.15))
        return [(tf.constant([1.0, -2.0]), a), (tf.constant([1.0, 0.5]), b)]

    def make() -> Any:
        return ko.SGD(0.1, use_ema=True, ema_momentum=0.6, ema_overwrite_frequency=3)

    _check_everywhere(make, make_pairs, fused)


def test_a_step_whose_declined_variables_are_all_replaced_by_their_gradients() -> None:
    def make_pairs() -> list[tuple[Any, Any]]:
        a, b = (keras.Variable([2.0, 3.0], name=name) for name in ("a", "b"))
        b.overwrite_with_gradient = True
        return [(tf.constant([1.0, -2.0]), a), (tf.constant([7.0, 8.0]), b)]

    _check_everywhere(lambda: ko.Nadam(0.1, use_ema=True), make_pairs, ["a"])


def test_averages_of_variables_that_the_step_does_not_train() -> None:
    def after_two_steps(apply: Apply) -> list[np.ndarray]:
        pair, (_, other) = _pairs()
        optimizer = ko.SGD(0.1, use_ema=True)
        optimizer.build([other, pair[1]])
        train = tf.function(lambda: apply(optimizer, [pair]), autograph=False)
        train()
        train()
        return [v.numpy() for v in optimizer.variables]

    def fused(optimizer: Any, pairs: Sequence[tuple[Any, Any]]) -> None:
        adapter_step(optimizer, pairs, ["b"], None)

    received, expected = after_two_steps(fused), after_two_steps(_own)
    for got, want in zip(received, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    assert received[2].tolist() == [1, 1]  # an average: it began as zero


# --- weight decay


@pytest.mark.parametrize("variable_type", [tf.Variable, keras.Variable])
def test_decayed(variable_type: type) -> None:
    kernel, bias, other = (variable_type([1.0], name=n) for n in ("kernel", "bias", "other"))
    variables = [kernel, bias, other]

    def decayed(optimizer: Any) -> list[bool]:
        return [adapter_for(optimizer).decayed(v) for v in variables]

    assert decayed(ko.Adam()) == [False] * 3
    assert decayed(v1.AdamOptimizer()) == [False] * 3
    optimizer = ko.AdamW()
    assert decayed(optimizer) == [True] * 3
    optimizer.exclude_from_weight_decay(var_names=["bia"])
    assert decayed(optimizer) == [True, False, True]
    optimizer.exclude_from_weight_decay(var_list=[kernel], var_names=["other$", "bias:0"])
    assert decayed(optimizer) == [False, False, True]  # "other$": Keras has "other:0" there.


# --- errors


@pytest.mark.parametrize("optimizer_type", [ko.Adam, ko.RMSprop])
@pytest.mark.parametrize("variable_type", [tf.Variable, keras.Variable])
def test_one_keras_optimizer_for_both_parts(optimizer_type: Any, variable_type: type) -> None:
    (_, first), (_, second) = _pairs(variable_type)
    optimizer = optimizer_type(name="mine")
    optimizer.build([first])
    adapter = adapter_for(optimizer)
    message = (
        r"optimizer 'mine' was built without .*own.*first_vars \+ second_vars.*Received: a(:0)?$"
    )
    with pytest.raises(VariableListError, match=message):
        tf.function(lambda: adapter.prepare([first, second]), autograph=False)()


@pytest.mark.parametrize("built", [True, False])
def test_eager_keras_optimizer_in_a_graph(built: bool) -> None:
    optimizer = ko.Adam(name="mine")
    if built:
        optimizer.build([tf.Variable([1.0])])
        optimizer._trainable_variables_indices.clear()  # Not the error that this is about.
    with tf.Graph().as_default():
        variable = tf.Variable([1.0])
        with pytest.raises(SplitError, match=r"optimizer 'mine' has state outside.*Received: mine"):
            adapter_for(optimizer).prepare([variable])


def test_keras_optimizer_of_another_graph() -> None:
    with tf.Graph().as_default():
        optimizer = ko.Adam(name="mine")
    adapter = adapter_for(optimizer)
    for scope in (tf.Graph().as_default, tf.init_scope):
        with scope(), pytest.raises(SplitError, match=r"'mine' has state outside.*Received: mine"):
            adapter.prepare([tf.Variable([1.0])])


def test_accumulation_in_a_graph() -> None:
    for make in (ko.Adam, ko.Lamb):
        with tf.Graph().as_default():
            optimizer = make(gradient_accumulation_steps=2, name="mine")
            message = r"'mine' accumulates.*use a tf\.function.*Received: .*_steps=2"
            with pytest.raises(SplitError, match=message):
                adapter_for(optimizer).prepare([tf.Variable([1.0])])
        optimizer, variable = make(gradient_accumulation_steps=2), tf.Variable([1.0])
        tf.function(adapter_for(optimizer).prepare, autograph=False)([variable])


@BOTH_ADAMS
def test_a_later_trace_of_a_function_can_not_create_slots(make: Callable[[], Any]) -> None:
    optimizers, pairs = [make(), make()], _pairs()

    @tf.function(autograph=False)
    def train(index: int) -> None:
        adapter_step(optimizers[index], pairs, ["a"], None)

    train(0)
    is_keras = isinstance(optimizers[0], ko.Optimizer)
    cure = r"optimizer\.build\(variables\)" if is_keras else "in that first call"
    with pytest.raises(SplitError, match=f"can't create its slots here.*{cure}.*Received: "):
        train(1)
    if is_keras:
        optimizers[1].build([v for _, v in pairs])
        train(1)
        assert len(optimizers[1].variables) == 6


@BOTH_ADAMS
def test_eager_global_step_in_a_graph(make: Callable[[], Any]) -> None:
    global_step = tf.Variable(0, name="steps")
    with tf.Graph().as_default():
        (_, variable), _ = _pairs()
        adapter = adapter_for(make())
        adapter.prepare([variable])
        fused = [adapter.hyper(tf.float32).op]
        with pytest.raises(SplitError, match=r"global_step 'steps:0' has state outside.*Received"):
            adapter.finish(fused, [], global_step)


# --- the order of a step in a graph


WRITES = ("Assign", "ResourceApply", "StatefulPartitionedCall")


def _ancestors(operation: tf.Operation) -> set[tf.Operation]:
    found, todo = set(), [operation]
    while todo:
        op = todo.pop()
        parents = {*op.control_inputs, *(tensor.op for tensor in op.inputs)} - found
        found |= parents
        todo += parents
    return found


@OPTIMIZERS
@pytest.mark.parametrize("mixed", [True, False])
def test_all_that_a_step_writes_comes_after_the_fused_updates(
    make: Callable[[], Any], mixed: bool
) -> None:
    with tf.Graph().as_default() as graph:
        pairs = _pairs()
        global_step = tf.Variable(0, dtype=tf.int64)
        adapter = adapter_for(make())
        adapter.prepare([v for _, v in pairs])
        fused = tf.identity(adapter.hyper(tf.float32)).op
        before = len(graph.get_operations())
        step = adapter.finish([fused], pairs if mixed else [], global_step)
        written = [op for op in graph.get_operations()[before:] if op.type.startswith(WRITES)]

    everything = _ancestors(step) | {step}
    assert fused in everything
    assert len(written) > mixed  # global_step at least
    for operation in written:
        assert fused in _ancestors(operation)
        assert operation in everything


def test_weight_decay_waits_for_the_gradients() -> None:
    """TensorFlow inlines functions, and then may start what needs none of their arguments."""
    with tf.Graph().as_default():
        (_, a), (_, b) = _pairs()
        with tf.control_dependencies([tf.random.uniform([3000, 3000])]):  # Takes its time.
            gradient = tf.square(b.read_value())
        adapter = adapter_for(ko.SGD(1.0, weight_decay=0.5))
        adapter.prepare([a, b])
        fused = a.assign_add([1.0, 1.0], read_value=False)
        step = adapter.finish([fused], [(gradient, b)], None)
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            session.run(step)
            assert session.run(b).tolist() == [-0.5, -0.5]


@BOTH_ADAMS
@pytest.mark.parametrize("fused", [["a", "b"], ["a"], []])
def test_the_step_in_a_function_comes_after_its_updates(
    make: Callable[[], Any], fused: list[str]
) -> None:
    optimizer, pairs, found = make(), _pairs(), []

    @tf.function(autograph=False)
    def train() -> None:
        step = adapter_step(optimizer, pairs, fused, None)
        graph = tf.compat.v1.get_default_graph()
        weights = {id(graph.capture(tf_variable(v).handle)) for _, v in pairs}
        written = [op for op in graph.get_operations() if op.type.startswith(WRITES)]
        of_weights = [op for op in written if id(op.inputs[0]) in weights]
        found.append((graph, step, of_weights))

    train()
    _, step, of_weights = found[-1]
    assert len(of_weights) >= len(pairs)
    assert _ancestors(step).issuperset(of_weights)


@BOTH_ADAMS
@pytest.mark.parametrize("mixed", [True, False])
def test_global_step_may_be_a_reference_or_a_keras_variable(
    make: Callable[[], Any], mixed: bool
) -> None:
    with tf.Graph().as_default():
        pairs = _pairs()
        steps = [
            tf.compat.v1.Variable(3, use_resource=False, dtype=tf.int64),
            keras.Variable(3, dtype="int32"),
        ]
        optimizer = make()
        train = [adapter_step(optimizer, pairs, ["a", "b" * (not mixed)], s) for s in steps]
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            for step in train:
                session.run(step)
            assert session.run([tf_variable(s) for s in steps]) == [4, 4]


def test_the_step_is_in_the_collection_of_train_ops() -> None:
    with tf.Graph().as_default():
        for fused in (["a", "b"], ["a"], []):
            step = adapter_step(v1.AdamOptimizer(), _pairs(), fused, None)
            assert tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.TRAIN_OP)[-1] is step

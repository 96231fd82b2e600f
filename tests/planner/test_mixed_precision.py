"""Layers that compute in 16 bits on float32 variables: what the planner finds and emits."""

from __future__ import annotations

from typing import Any

import keras
import pytest
import tensorflow as tf

import splitop
from splitop._src import library

tf1 = tf.compat.v1

POLICIES = {"mixed_bfloat16": tf.bfloat16, "mixed_float16": tf.float16}


@pytest.fixture(autouse=True)
def _cuda(monkeypatch: pytest.MonkeyPatch, graph: Any) -> None:
    monkeypatch.setattr(library, "cuda_reason", lambda: None)


def placeholder(*shape: int | None, dtype: tf.DType = tf.float32) -> Any:
    return tf1.placeholder(dtype, (None, *shape))


def variable(name: str, *shape: int, device: str | None = "/GPU:0") -> tf.Variable:
    with tf.device(device):
        return tf1.get_variable(name, shape)


def dense(x: Any, name: str, units: int, dtype: tf.DType = tf.bfloat16, **place: Any) -> Any:
    """A relu layer of plain TensorFlow that computes in `dtype`."""
    kernel = variable(f"{name}_k", x.shape[-1], units, **place)
    z = tf.matmul(tf.cast(x, dtype), tf.cast(kernel, dtype))
    return tf.nn.relu(z + tf.cast(variable(f"{name}_b", units, **place), dtype))


def make_plan(iv: Any, **options: Any) -> splitop.Plan:
    optimizer = options.pop("optimizer", None) or tf1.train.MomentumOptimizer(0.1, 0.9)
    seed = tf1.placeholder(iv.dtype, iv.shape, "seed")
    return splitop.plan(optimizer, iv, tf1.trainable_variables(), seed, **options)


def kernels_of(plan: splitop.Plan) -> list[list[str]]:
    return [[layer.kernel for layer in chain.layers] for chain in plan.chains]


def fused_ops(graph: Any) -> list[Any]:
    return [op for op in graph.get_operations() if op.type == "Splitop>DenseChain"]


def copies_of(op: Any) -> list[Any]:
    """The op's input `kernel_copies`."""
    first = 1 + op.get_attr("num_layers") + op.get_attr("num_references")
    return list(op.inputs)[first : first + op.get_attr("num_kernel_copies")]


def kernels_read_by(op: Any) -> list[Any]:
    """The handles of the op's input `kernels`."""
    handles = [tensor for tensor in op.inputs if tensor.dtype == tf.resource]
    return handles[: op.get_attr("num_layers")]


def assert_copies_of_kernels(op: Any) -> None:
    for copy, handle in zip(copies_of(op), kernels_read_by(op), strict=False):
        assert copy.op.type == "Cast"
        assert copy.op.inputs[0].op.type == "ReadVariableOp"
        assert copy.op.inputs[0].op.inputs[0] is handle


@pytest.mark.parametrize("shape", [(8,), (3, 8)], ids=["rank 2", "rank 3"])
@pytest.mark.parametrize("policy", POLICIES)
def test_keras_layers(graph: Any, policy: str, shape: tuple[int, ...]) -> None:
    with tf.device("/GPU:0"):
        h = placeholder(*shape)
        layers = [
            keras.layers.Dense(units, activation, dtype=policy)
            for units, activation in ((7, "relu"), (6, "tanh"), (5, None))
        ]
        for layer in layers:
            h = layer(h)
    plan = make_plan(h, backend="fused")
    assert [layer.activation for layer in plan.chains[0].layers] == ["linear", "tanh", "relu"]
    assert all(layer.bias for layer in plan.chains[0].layers)
    plan.apply()
    (op,) = fused_ops(graph)
    assert op.device == "/device:GPU:0"
    assert op.get_attr("T") == POLICIES[policy]
    assert op.get_attr("V") == tf.float32
    assert kernels_read_by(op) == [layer.kernel.value.handle for layer in reversed(layers)]
    # Nobody needs the gradient of x, so the bottom layer's kernel is not read.
    assert [copy.shape.as_list() for copy in copies_of(op)] == [[6, 5], [7, 6]]
    assert_copies_of_kernels(op)
    hyper = op.inputs[-1]
    assert hyper.dtype == tf.float32
    assert hyper.op.device == "/device:GPU:0"


@pytest.mark.parametrize("time", [3, None], ids=["BatchMatMul", "Einsum"])
@pytest.mark.parametrize("policy", POLICIES)
def test_heads(graph: Any, policy: str, time: int | None) -> None:
    with tf.device("/GPU:0"):
        lower = keras.layers.EinsumDense(
            "abc,cde->abde", (None, 2, 3), "relu", bias_axes="de", dtype=policy
        )
        upper = keras.layers.EinsumDense("abcd,cde->abe", (None, 5), bias_axes="e", dtype=policy)
        iv = upper(lower(placeholder(time, 8)))
    plan = make_plan(iv, backend="fused")
    (chain,) = plan.chains
    assert [layer.activation for layer in chain.layers] == ["linear", "relu"]
    assert all(layer.bias for layer in chain.layers)
    plan.apply()
    (op,) = fused_ops(graph)
    assert kernels_read_by(op) == [layer.kernel.value.handle for layer in (upper, lower)]
    (copy,) = copies_of(op)
    assert copy.shape == (6, 5)
    assert copy.dtype == POLICIES[policy]


def test_keras_layers_in_a_tf_function() -> None:
    """Eager variables of this machine are on its CPU."""
    with tf.init_scope():
        layer = keras.layers.Dense(4, dtype="mixed_bfloat16")
        with tf.device("/CPU:0"):
            layer.build((None, 8))
        optimizer, plans = keras.optimizers.Adam(), []
        optimizer.build(layer.trainable_variables)

        @tf.function(input_signature=[tf.TensorSpec((None, 8))])
        def step(x: Any) -> None:
            plans.append(splitop.plan(optimizer, layer(x), layer.trainable_variables))

        step.get_concrete_function()
    assert plans[0].fused == tuple(weight.path for weight in layer.trainable_variables)
    assert not plans[0].updated


def test_plain_tensorflow(graph: Any) -> None:
    plan = make_plan(dense(dense(placeholder(8), "low", 7), "top", 5), backend="fused")
    assert kernels_of(plan) == [["top_k:0", "low_k:0"]]
    plan.apply()
    (op,) = fused_ops(graph)
    assert op.get_attr("num_kernel_copies") == 1
    assert_copies_of_kernels(op)


def test_a_copy_of_every_kernel_if_the_input_gradient_is_wanted(graph: Any) -> None:
    x = placeholder(8, dtype=tf.bfloat16) * tf.cast(variable("scale", 8), tf.bfloat16)
    plan = make_plan(dense(dense(x, "low", 7), "top", 5))
    assert plan.chains[0].input_gradient
    assert plan.updated.keys() == {"scale:0"}
    plan.apply()
    (op,) = fused_ops(graph)
    assert op.get_attr("num_kernel_copies") == 2
    assert_copies_of_kernels(op)
    assert op.outputs[0].dtype == tf.bfloat16


def test_a_layer_of_full_precision_on_top(graph: Any) -> None:
    h = dense(dense(placeholder(8), "low", 7), "middle", 6)
    plan = make_plan(dense(h, "top", 5, tf.float32), backend="fused")
    assert sorted(kernels_of(plan)) == [["middle_k:0", "low_k:0"], ["top_k:0"]]
    plan.apply()
    assert [op.get_attr("T") for op in fused_ops(graph)] == [tf.float32, tf.bfloat16]


def test_the_two_short_types_in_one_model(graph: Any) -> None:
    h = dense(placeholder(8), "low", 7, tf.float16)
    plan = make_plan(dense(h, "top", 5), backend="fused")
    plan.apply()
    assert [op.get_attr("T") for op in fused_ops(graph)] == [tf.bfloat16, tf.float16]


def test_a_write_after_the_read(graph: Any) -> None:
    """dL/dx is taken from the copy that the forward pass has read, so the chain holds."""
    h = dense(placeholder(8), "low", 7)
    kernel = variable("top_k", 7, 5)
    read = tf.cast(kernel, tf.bfloat16)
    with tf.control_dependencies([read]):
        write = kernel.assign(kernel * 0.5, read_value=False)
    with tf.control_dependencies([write]):
        iv = tf.nn.relu(tf.matmul(h, read))
    plan = make_plan(iv, backend="fused")
    assert kernels_of(plan) == [["top_k:0", "low_k:0"]]


@pytest.mark.parametrize("device", ["/CPU:0", None])
def test_not_on_a_gpu(graph: Any, device: str | None) -> None:
    iv = dense(dense(placeholder(8), "low", 7, device=device), "top", 5, device=device)
    plan = make_plan(iv)
    assert kernels_of(plan) == [["top_k:0", "low_k:0"]]
    assert not plan.updated
    plan.apply()
    (op,) = fused_ops(graph)
    assert op.get_attr("T") == tf.bfloat16
    assert_copies_of_kernels(op)


def test_a_sweep_is_given_the_copies(graph: Any) -> None:
    iv = dense(dense(placeholder(8), "low", 7, device="/CPU:0"), "top", 5, device="/CPU:0")
    plan = make_plan(iv, skip_nonfinite=True)
    assert kernels_of(plan) == [["top_k:0", "low_k:0"]]
    plan.apply()
    (sweep,) = (op for op in graph.get_operations() if op.type == "Splitop>DenseSweep")
    assert [copy.shape.as_list() for copy in copies_of(sweep)] == [[7, 5]]
    assert_copies_of_kernels(sweep)
    assert [op.get_attr("num_kernel_copies") for op in fused_ops(graph)] == [0, 0]


class TestDeclined:
    def test_where_no_cuda_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library, "cuda_reason", lambda: "There is no driver.")
        plan = make_plan(dense(placeholder(8), "low", 7))
        why = "it is placed on /device:GPU:0. There is no driver."
        assert plan.declined == dict.fromkeys(["low_k:0", "low_b:0"], why)

    def test_in_more_than_one_place(self) -> None:
        kernel = tf.cast(variable("k", 8, 8, device="/CPU:0"), tf.bfloat16)
        iv = tf.matmul(tf.matmul(placeholder(8, dtype=tf.bfloat16), kernel), kernel)
        assert "more than one place" in make_plan(iv).updated["k:0"]

    def test_float64_variables(self) -> None:
        with tf.device("/GPU:0"):
            kernel = tf1.get_variable("k", [8, 4], tf.float64)
        plan = make_plan(tf.matmul(placeholder(8), tf.cast(kernel, tf.float32)))
        assert plan.updated == {"k:0": "its layer computes in float32"}
        kernel_copy = tf.cast(kernel, tf.bfloat16)
        plan = make_plan(tf.matmul(placeholder(8, dtype=tf.bfloat16), kernel_copy))
        assert plan.updated == {"k:0": "its layer computes in bfloat16"}

    def test_variables_of_16_bits(self) -> None:
        with tf.device("/GPU:0"):
            kernel = tf1.get_variable("k", [8, 4], tf.bfloat16)
        plan = make_plan(tf.matmul(placeholder(8, dtype=tf.bfloat16), kernel))
        assert plan.declined == {"k:0": "its dtype is bfloat16; fused are float32 and float64"}

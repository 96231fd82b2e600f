"""Where variables are decides what is fused, in which chains, and where the op goes.

A machine without a GPU can plan for one; what is planned here does not run.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import keras
import pytest
import tensorflow as tf

import splitop
from splitop._src import library
from splitop._src.graph import devices

tf1 = tf.compat.v1

ROOT = pathlib.Path(__file__).parents[2]
NO_GPU = "There is no NVIDIA driver: install one."
FULL_NAME = "/job:localhost/replica:0/task:0/device:"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA kernels can be used."""
    monkeypatch.setattr(library, "cuda_reason", lambda: None)


@pytest.fixture
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA kernels can't be used."""
    monkeypatch.setattr(library, "cuda_reason", lambda: NO_GPU)


@pytest.fixture
def visible_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow has a GPU."""
    monkeypatch.setattr(devices.tf.config, "get_visible_devices", lambda kind: [f"{kind}:0"])


def plan_layers(
    kernels: Sequence[str | None],
    biases: Sequence[str | None] | None = None,
    optimizer: Any = None,
) -> splitop.Plan:
    """A plan for tanh layers "0", "1", ... from the bottom up, on the given devices."""
    h, variables = tf1.placeholder(tf.float32, [None, 5], "x"), []
    for number, (kernel, bias) in enumerate(zip(kernels, biases or kernels, strict=True)):
        with tf.device(kernel):
            k = tf1.get_variable(f"{number}/k", [5, 5])
        with tf.device(bias):
            b = tf1.get_variable(f"{number}/b", [5])
        h = tf.tanh(tf.matmul(h, k) + b)
        variables += [k, b]
    seed = tf1.placeholder(tf.float32, [None, 5], "seed")
    optimizer = optimizer or tf1.train.AdamOptimizer()
    return splitop.plan(optimizer, h, variables, seed)


def chains_of(plan: splitop.Plan) -> list[tuple[list[str], bool]]:
    """The kernels of each chain, and whether it gives its input's gradient."""
    return [
        ([layer.kernel for layer in chain.layers], chain.input_gradient) for chain in plan.chains
    ]


def fused_ops(graph: Any) -> list[Any]:
    return [op for op in graph.get_operations() if op.type == "Splitop>DenseChain"]


@pytest.mark.usefixtures("gpus")
class TestPlaced:
    @pytest.mark.parametrize("device", ["/GPU:0", "/gpu:1", f"{FULL_NAME}GPU:0"])
    def test_a_chain_on_a_gpu(self, graph: Any, device: str) -> None:
        plan = plan_layers([device, device])
        assert chains_of(plan) == [(["1/k:0", "0/k:0"], False)]
        assert plan.declined == {}

    def test_the_op_goes_where_the_variables_are(self, graph: Any) -> None:
        plan = plan_layers(["/GPU:0", "/GPU:0"])
        with tf.device("/CPU:0"), graph.colocate_with(graph.get_operation_by_name("x")):
            plan.apply()
        (op,) = fused_ops(graph)
        assert op.device == "/device:GPU:0"
        assert op.colocation_groups() == [b"loc:@" + op.name.encode()]
        assert op.inputs[-1].op.device == "/device:GPU:0"  # hyper

    def test_the_same_device_in_other_words(self, graph: Any) -> None:
        plan = plan_layers(["/GPU:0", f"{FULL_NAME}GPU:0"], [f"{FULL_NAME}GPU:0", "/device:GPU:0"])
        assert chains_of(plan) == [(["1/k:0", "0/k:0"], False)]

    @pytest.mark.parametrize("lower", ["/GPU:1", "/CPU:0", None])
    def test_a_chain_breaks_where_the_device_changes(self, graph: Any, lower: str | None) -> None:
        plan = plan_layers([lower, lower, "/GPU:0", "/GPU:0"])
        assert plan.declined == {}
        assert chains_of(plan) == [(["1/k:0", "0/k:0"], False), (["3/k:0", "2/k:0"], True)]
        plan.apply()
        upper_op, lower_op = fused_ops(graph)
        expected = graph.get_tensor_by_name("0/k:0").op.device if lower else ""
        assert [upper_op.device, lower_op.device] == ["/device:GPU:0", expected]
        assert [op.inputs[-1].op.device for op in (upper_op, lower_op)] == [
            "/device:GPU:0",
            expected,
        ]
        assert lower_op.inputs[0] is upper_op.outputs[0]

    def test_one_set_of_hyperparameters_a_device(self, graph: Any) -> None:
        plan_layers(["/GPU:0", "/GPU:1", "/GPU:0"]).apply()
        hyper = {op.inputs[-1] for op in fused_ops(graph)}
        assert sorted(tensor.op.device for tensor in hyper) == ["/device:GPU:0", "/device:GPU:1"]

    def test_a_bias_elsewhere(self, graph: Any) -> None:
        plan = plan_layers(["/GPU:0"], ["/CPU:0"])
        assert plan.updated == {
            "0/b:0": "its device is /device:CPU:0, that of its layer's kernel is /device:GPU:0"
        }
        # TensorFlow sums up the gradient behind the activation.
        assert plan.chains[0].layers == (splitop.PlannedLayer("0/k:0", None, "linear"),)
        plan.apply()

    def test_a_bias_whose_device_is_open(self, graph: Any) -> None:
        plan = plan_layers(["/GPU:0"], [None])
        assert plan.updated == {
            "0/b:0": "its device is not set, that of its layer's kernel is /device:GPU:0"
        }

    def test_a_tpu(self, graph: Any) -> None:
        plan = plan_layers(["/TPU:0"])
        assert plan.declined["0/k:0"] == (
            "it is placed on /device:TPU:0; the fused op runs on CPUs and NVIDIA GPUs"
        )


@pytest.mark.usefixtures("gpus")
class TestSlots:
    def test_of_a_tf1_optimizer(self, graph: Any) -> None:
        with tf.device("/GPU:0"):
            kernel = tf1.get_variable("k", [5, 5])
        optimizer = tf1.train.MomentumOptimizer(0.1, 0.9)
        with tf.device("/CPU:0"):
            slot = tf1.get_variable("slot", [5, 5])
        optimizer._slot_dict("momentum")[(graph, "k")] = slot
        assert optimizer.get_slot(kernel, "momentum") is slot
        iv = tf.matmul(tf.ones([3, 5]), kernel)
        assert splitop.plan(optimizer, iv, [kernel]).declined == {
            "k:0": 'the device of its slot "slot:0" is /device:CPU:0, its own is /device:GPU:0'
        }

    def test_of_a_keras_optimizer(self, graph: Any) -> None:
        with tf.device("/GPU:0"):
            kernel = keras.Variable(tf.ones([5, 5]), name="k")
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        optimizer.build([kernel])
        with tf.device("/GPU:1"):
            optimizer.momentums[0] = keras.Variable(tf.zeros([5, 5]), name="slot")
        iv = tf.matmul(tf.ones([3, 5]), kernel.value)
        (reason,) = splitop.plan(optimizer, iv, [kernel]).declined.values()
        assert "is /device:GPU:1, its own is /device:GPU:0" in reason
        assert "slot" in reason

    @pytest.mark.parametrize("flavour", ["tf1", "keras"])
    def test_new_ones_join_their_variables(self, graph: Any, flavour: str) -> None:
        optimizers = {"tf1": tf1.train.AdamOptimizer, "keras": keras.optimizers.Adam}
        plan = plan_layers(["/GPU:0", "/GPU:1"], optimizer=optimizers[flavour]())
        plan.apply()
        ops = fused_ops(graph)
        assert len(ops) == 2
        for op in ops:
            handles = [tensor for tensor in op.inputs if tensor.dtype == tf.resource]
            assert len(handles) == 6
            assert {handle.op.device for handle in handles} == {op.device}

    def test_of_an_optimizer_that_does_not_know_the_variable(self, graph: Any) -> None:
        """What it says is for Plan.apply."""
        optimizer = keras.optimizers.Adam()
        optimizer.build([keras.Variable(tf.ones([2, 2]))])
        plan = plan_layers(["/GPU:0"], optimizer=optimizer)
        assert plan.declined == {}


class TestTheCudaKernelsCanNotBeUsed:
    @pytest.fixture(autouse=True)
    def _no_gpus(self, no_gpus: None, graph: Any) -> None:
        pass

    def test_a_variable_on_a_gpu(self) -> None:
        plan = plan_layers(["/CPU:0", "/GPU:0"])
        why = f"it is placed on /device:GPU:0. {NO_GPU}"
        assert plan.declined == {"1/k:0": why, "1/b:0": why}
        assert plan.fused == ("0/k:0", "0/b:0")

    @pytest.mark.usefixtures("visible_gpu")
    def test_a_variable_that_a_gpu_would_get(self) -> None:
        plan = plan_layers(["/CPU:0", None])
        assert plan.fused == ("0/k:0", "0/b:0")
        for reason in plan.declined.values():
            assert 'tf.device("/CPU:0")' in reason
            assert NO_GPU in reason

    def test_a_variable_that_no_gpu_would_get(self) -> None:
        assert plan_layers([None]).declined == {}


@pytest.mark.usefixtures("gpus", "visible_gpu")
def test_a_variable_that_a_gpu_gets(graph: Any) -> None:
    plan = plan_layers([None, None])
    assert chains_of(plan) == [(["1/k:0", "0/k:0"], False)]
    plan.apply()
    assert fused_ops(graph)[0].device == ""


@pytest.mark.parametrize("flavour", ["session", "function"])
def test_a_model_on_two_cpus(flavour: str) -> None:
    """In a process of its own: logical devices are set before TensorFlow runs anything."""
    subprocess.run(
        [sys.executable, "-m", "tests.planner.two_cpus", flavour],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
    )

"""The kernel's own checks: the bare op, called eagerly, with no shape function before it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

from splitop._src import library

InvalidArgument = tf.errors.InvalidArgumentError


@pytest.fixture(autouse=True)
def _on_the_cpu():
    with tf.device("/CPU:0"):
        yield


@pytest.fixture
def kernel():
    return tf.Variable(np.ones((3, 2), np.float32))


@pytest.fixture
def bias():
    return tf.Variable(np.ones(2, np.float32))


def call(**replaced):
    """Runs one linear layer of 3 inputs and 2 units under momentum, some arguments replaced."""
    arguments = {
        "seed": np.ones((4, 2), np.float32),
        "layer_inputs": [np.ones((4, 3), np.float32)],
        "references": [],
        "kernel_copies": [],
        "biases": [],
        "hyper": np.array([0, 0.9, 1, -0.1, 0], np.float32),
        "conditions": [],
        "clips": [],
        "kernel_gradients": [],
        "num_input_gradients": 1,
        "activations": ["linear"],
        "alphas": [0.0],
        "use_bias": [False],
        "rule": "momentum",
        "decayed": [False],
        "layer_names": ["d/kernel"],
        "seed_name": "seed",
    }
    return library.load().splitop_dense_chain(**(arguments | replaced))


def slot_of(variable):
    return tf.Variable(tf.zeros_like(variable)).handle


def expect(error, message):
    return pytest.raises(error, match=re.escape(message))


def test_runs(kernel):
    (gradient,) = call(kernels=[kernel.handle], slots=[slot_of(kernel)])
    np.testing.assert_array_equal(gradient, np.full((4, 3), 2))
    np.testing.assert_allclose(kernel, np.full((3, 2), 1 - 0.1 * 4), rtol=1e-6)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"activations": ["linear"] * 2}, "takes 1 activations, one a layer. Received: 2."),
        ({"alphas": [0.0] * 3}, "takes 1 alphas, one a layer. Received: 3."),
        ({"use_bias": [False] * 2}, "takes 1 use_bias entries, one a layer. Received: 2."),
        ({"layer_names": ["a", "b"]}, "takes 1 layer_names, one a layer. Received: 2."),
        ({"decayed": [True] * 2}, "takes 1 decayed entries, one a kernel, then one a bias"),
        ({"use_bias": [True]}, "takes 1 biases, one for each layer that uses one. Received: 0."),
        ({"activations": ["relu"]}, "takes 1 references, one for each layer that is not linear"),
        ({"slots": []}, 'takes 1 slots, the rule "momentum" having 1 a variable. Received: 0.'),
        ({"num_input_gradients": 2}, "takes 1 input gradients at most. Received: 2."),
        (
            {"kernel_copies": [np.ones((3, 2), np.float32)]},
            "takes 0 kernel_copies, in mixed precision one for each kernel whose dL/dx is computed",
        ),
        ({"activations": ["mish"]}, "mish"),
        ({"rule": "lars"}, 'unknown update rule. Received: "lars"'),
        (
            {"rule": "rowwise_adagrad"},
            'DenseChain takes no row-wise update rule. Received: "rowwise_adagrad".',
        ),
        ({"conditions": [True]}, "takes 0 input gradients with a condition. Received: 1."),
        ({"clips": [np.ones((1, 2), np.float32)] * 2}, "takes 1 clips at most. Received: 2."),
    ],
)
def test_attributes_that_do_not_fit_together(kernel, replaced, message):
    before = kernel.numpy()
    with expect(InvalidArgument, message):
        call(**({"kernels": [kernel.handle], "slots": [slot_of(kernel)]} | replaced))
    np.testing.assert_array_equal(kernel, before)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"seed": np.ones((3, 2), np.float32)}, 'SeedError: seed "seed" must have shape [4, 2]'),
        ({"layer_inputs": [np.ones((4, 2), np.float32)]}, "must have shape [?, 3]"),
        ({"layer_inputs": [np.ones((0, 3), np.float32)]}, "an empty batch trains nothing"),
        ({"hyper": np.ones(2, np.float32)}, "hyper must have shape [5]"),
        ({"clips": [np.ones((2, 2), np.float32)]}, "clips must have shape [1, 2]"),
    ],
)
def test_shapes(kernel, replaced, message):
    before = kernel.numpy()
    with expect(InvalidArgument, message):
        call(kernels=[kernel.handle], slots=[slot_of(kernel)], **replaced)
    np.testing.assert_array_equal(kernel, before)


def test_a_condition(kernel):
    slot = slot_of(kernel)
    resources = {"kernels": [kernel.handle], "slots": [slot], "num_input_gradients": 0}
    call(**resources, conditions=[False])
    np.testing.assert_array_equal(kernel, np.ones((3, 2)))
    call(**resources, conditions=[True])
    np.testing.assert_allclose(kernel, np.full((3, 2), 1 - 0.1 * 4), rtol=1e-6)


def test_clips(kernel):
    # The gradient is 4 everywhere.
    clips = np.array([[0.5, 1.5]], np.float32)
    call(kernels=[kernel.handle], slots=[slot_of(kernel)], clips=[clips])
    np.testing.assert_allclose(kernel, np.full((3, 2), 1 - 0.1 * 1.5), rtol=1e-6)


def test_kernel_gradients(kernel):
    gradient = np.arange(6, dtype=np.float32).reshape(3, 2)
    call(kernels=[kernel.handle], slots=[slot_of(kernel)], kernel_gradients=[gradient])
    np.testing.assert_allclose(kernel, 1 - 0.1 * gradient, rtol=1e-6)
    kernel.assign(np.ones((3, 2)))
    nothing = np.ones((0, 0), np.float32)
    call(kernels=[kernel.handle], slots=[slot_of(kernel)], kernel_gradients=[nothing])
    np.testing.assert_allclose(kernel, np.full((3, 2), 1 - 0.1 * 4), rtol=1e-6)


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        (
            [np.ones((2, 3), np.float32)],
            'the gradient of kernel "d/kernel" must have shape [3, 2] (that of the kernel as a '
            "matrix, or empty). Received: [2, 3].",
        ),
        ([np.ones((3, 2), np.float32)] * 2, "takes 1 kernel_gradients, one a layer or none"),
    ],
)
def test_bad_kernel_gradients(kernel, gradients, message):
    slot = slot_of(kernel)
    with expect(InvalidArgument, message):
        call(kernels=[kernel.handle], slots=[slot], kernel_gradients=gradients)
    np.testing.assert_array_equal(kernel, np.ones((3, 2)))


def sweep(kernel, **replaced):
    arguments = {
        "seed": np.ones((4, 2), np.float32),
        "layer_inputs": [np.ones((4, 3), np.float32)],
        "references": [],
        "kernel_copies": [],
        "kernels": [kernel.handle],
        "num_input_gradients": 1,
        "num_squared_norms": 1,
        "num_kernel_gradients": 0,
        "V": tf.float32,
        "activations": ["linear"],
        "alphas": [0.0],
        "norms": "exact",
        "layer_names": ["d/kernel"],
        "seed_name": "seed",
    }
    return library.load().splitop_dense_sweep(**(arguments | replaced))


def test_sweep(kernel):
    gradients, input_gradients, norms, kept = sweep(kernel)
    assert kept == []
    np.testing.assert_array_equal(gradients[0], np.ones((4, 2)))
    np.testing.assert_array_equal(input_gradients[0], np.full((4, 3), 2))
    np.testing.assert_allclose(norms[0], [[6 * 16], [2 * 16]])
    np.testing.assert_array_equal(kernel, np.ones((3, 2)))


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"norms": "some"}, 'unknown norms. Received: "some"'),
        ({"norms": "none"}, "takes 0 squared_norms, as norms says. Received: 1."),
        ({"layer_names": ["a", "b"]}, "Splitop>DenseSweep takes 1 layer_names, one a layer"),
        ({"kernel_copies": [np.ones((3, 2), np.float32)]}, "takes 0 kernel_copies"),
        ({"seed": np.ones((3, 2), np.float32)}, 'SeedError: seed "seed" must have shape [4, 2]'),
        ({"seed": np.ones((4, 2))}, 'kernel "d/kernel" must be a variable of double'),
        ({"V": tf.float64}, "Splitop>DenseSweep takes variables of float with tensors of float"),
        ({"num_kernel_gradients": 2}, "takes 1 kernel_gradients, one a layer or none. Received: 2"),
        (
            {"num_kernel_gradients": 1, "norms": "bounds"},
            "takes 0 kernel_gradients unless norms is exact. Received: 1.",
        ),
    ],
)
def test_a_bad_sweep(kernel, replaced, message):
    doubles = {"layer_inputs": [np.ones((4, 3))], "V": tf.float64} if "double" in message else {}
    with expect(InvalidArgument, message):
        sweep(kernel, **replaced, **doubles)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("batch", [4, 300])
def test_gradients_that_a_sweep_keeps(batch, dtype):
    random = np.random.default_rng(0)
    x, seed = (tf.cast(random.normal(size=(batch, n)), dtype).numpy() for n in (90, 80))
    kernel = tf.Variable(np.ones((90, 80), np.float32))
    gradients, _, norms, (kept,) = sweep(
        kernel, seed=seed, layer_inputs=[x], num_kernel_gradients=1, num_input_gradients=0
    )
    np.testing.assert_array_equal(gradients[0], seed)
    assert kept.dtype == tf.float32
    product = x.T.astype(np.float64) @ seed.astype(np.float64)
    np.testing.assert_allclose(norms[0][0], [np.sum(product**2)], rtol=1e-5)
    if batch == 4:  # Gram matrices are cheaper
        assert kept.shape == (0, 0)
    else:
        np.testing.assert_allclose(kept, product, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("batch", "shape"), [(None, [None] * 2), (4, [0, 0]), (300, [90, 80])])
def test_shapes_of_kept_gradients_in_a_graph(batch, shape):
    with tf.Graph().as_default():
        kernel = tf.compat.v1.get_variable("k", [90, 80], use_resource=True)
        seed = tf.compat.v1.placeholder(tf.float32, [batch, 80])
        x = tf.compat.v1.placeholder(tf.float32, [batch, 90])
        *_, (kept,) = sweep(kernel, seed=seed, layer_inputs=[x], num_kernel_gradients=1)
        assert kept.shape.as_list() == shape


def test_shapes_of_a_sweep_in_a_graph():
    with tf.Graph().as_default():
        kernel = tf.compat.v1.get_variable("k", [3, 2], use_resource=True)
        seed = tf.compat.v1.placeholder(tf.float32, [None, 2])
        x = tf.compat.v1.placeholder(tf.float32, [None, 3])
        gradients, input_gradients, norms, _ = sweep(kernel, seed=seed, layer_inputs=[x])
        assert gradients[0].shape.as_list() == [None, 2]
        assert input_gradients[0].shape.as_list() == [None, 3]
        assert norms[0].shape.as_list() == [2, 1]


def test_squared_norms():
    tensors = [np.full((2, 3), 2, np.float32), np.zeros((0, 4), np.float32), np.float32(3)]
    norms = library.load().splitop_squared_norms(tensors=tensors)
    np.testing.assert_array_equal(norms, [24, 0, 9])


def test_dtypes_of_variables(kernel, bias):
    double = tf.Variable(np.ones((3, 2)))
    with expect(InvalidArgument, 'kernel "d/kernel" must be a variable of float'):
        call(kernels=[double.handle], slots=[slot_of(kernel)])
    with expect(InvalidArgument, 'slot 0 of kernel "d/kernel" must be a variable of float'):
        call(kernels=[kernel.handle], slots=[double.handle])
    integer = tf.Variable(np.ones(2, np.int32))
    with expect(InvalidArgument, 'the bias of "d/kernel" must be a variable of float'):
        call(
            kernels=[kernel.handle],
            biases=[integer.handle],
            slots=[slot_of(kernel), slot_of(bias)],
            use_bias=[True],
            decayed=[False, False],
        )


def test_resource_that_is_no_variable(kernel):
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.float32, 0.0)
    with expect(InvalidArgument, 'slot 0 of kernel "d/kernel" must be a variable'):
        call(kernels=[kernel.handle], slots=[table.resource_handle])


def test_several_handles_in_one(kernel):
    handles = tf.stack([kernel.handle, slot_of(kernel)])
    message = 'kernel "d/kernel" must be one resource handle. Received: handles of shape [2].'
    with expect(InvalidArgument, message):
        call(kernels=[handles], slots=[slot_of(kernel)])
    with expect(InvalidArgument, "Empty resource handle"):
        call(kernels=[handles[:0]], slots=[slot_of(kernel)])


def test_same_variable_twice(kernel):
    with expect(InvalidArgument, "are the same variable"):
        call(kernels=[kernel.handle], slots=[kernel.handle])

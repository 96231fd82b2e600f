"""`splitop.function` does what tf.function does, whatever it is called with and wherever."""

from __future__ import annotations

import functools
import gc
import subprocess
import sys
import threading
import weakref
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src import function as short_calls
from splitop._src.function import Function


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Counts the calls that go the short way."""
    make, calls = short_calls._by_name, []

    def counted(traced: Any) -> Any:
        call = make(traced)
        return lambda tensors: (calls.append(None), call(tensors))[1]

    monkeypatch.setattr(short_calls, "_by_name", counted)
    return calls


def x(rows: int = 2, value: float = 1.0) -> tf.Tensor:
    return tf.fill([rows, 3], value)


class TestArguments:
    def test_a_tensor(self, way: Any) -> None:
        double = splitop.function(lambda a: a + a)
        results = [double(x(value=value)) for value in (1.0, 2.0, 3.0)]
        assert [float(result[0, 0]) for result in results] == [2.0, 4.0, 6.0]
        assert len(way) == 2  # The first call was tf.function's own.

    def test_shapes_and_dtypes_have_functions_of_their_own(self, way: Any) -> None:
        double = splitop.function(lambda a: a + a)
        for _ in range(3):
            for value in (x(2), x(5), tf.cast(x(2), tf.float64), tf.constant(1), x(0)):
                result = double(value)
                assert result.dtype == value.dtype
                assert result.shape == value.shape
                np.testing.assert_array_equal(result, 2 * value.numpy())
        assert len(way) == 10

    def test_reduced_retracing(self, way: Any) -> None:
        double = splitop.function(lambda a: a + a, reduce_retracing=True)
        for rows in (2, 3, 4, 5, 2, 3, 4, 5):
            np.testing.assert_array_equal(double(x(rows)), 2 * x(rows).numpy())
        assert double.experimental_get_tracing_count() == 2
        assert len(way) == 4

    def test_an_input_signature(self, way: Any) -> None:
        spec = tf.TensorSpec([None, 3], tf.float32)
        double = splitop.function(lambda a: a + a, input_signature=[spec])
        for rows in (2, 3, 2, 3):
            np.testing.assert_array_equal(double(x(rows)), 2 * x(rows).numpy())
        assert len(way) == 2
        with pytest.raises(TypeError):
            double(tf.zeros([3, 2]))

    def test_structures(self, way: Any) -> None:
        @splitop.function
        def step(batch: Any, pair: Any, scale: float, flag: bool = False) -> Any:
            a, (b, c) = batch["a"], pair
            return {"sum": (a - b) * scale, "rest": [c, None, flag]}

        for first in (1.0, 2.0):
            for batch in ({"z": x(3), "a": x(value=first)}, {"a": x(value=first), "z": x(3)}):
                result = step(batch, (x(value=5.0), x(4)), 2.0, True)
                assert float(result["sum"][0, 0]) == (first - 5) * 2
                assert result["rest"][0].shape == [4, 3]
                assert result["rest"][1] is None
        assert len(way) == 2

    def test_constants_are_told_apart(self, way: Any) -> None:
        described = splitop.function(lambda a, constant: tf.constant(repr(constant)))
        for _ in range(2):
            for constant in (1, 2.5, False, "1", None):
                assert described(x(), constant).numpy().decode() == repr(constant)
        assert len(way) == 5

    def test_a_list_is_no_tuple(self, way: Any) -> None:
        described = splitop.function(lambda a: tf.constant(type(a).__name__))
        for _ in range(2):
            assert described([x()]) == "list"
            assert described((x(),)) == "tuple"

    @pytest.mark.parametrize(
        "call",
        [
            lambda f: f(np.ones((2, 3), np.float32)),
            lambda f: f(a=x()),
            lambda f: f(tf.RaggedTensor.from_tensor(x())),
            lambda f: f(tf.Variable(x())),
        ],
        ids=["array", "keyword", "composite", "variable"],
    )
    def test_tf_functions_own_calls(self, way: Any, call: Any) -> None:
        double = splitop.function(lambda a: a + a)
        for _ in range(3):
            result = call(double)
            dense = result.to_tensor() if isinstance(result, tf.RaggedTensor) else result
            np.testing.assert_array_equal(dense, np.full((2, 3), 2.0))
        assert not way

    def test_a_handle_is_not_taken_for_another_one(self) -> None:
        variables = [tf.Variable(1.0), tf.Variable([2.0, 3.0])]

        @splitop.function
        def read(handle: Any) -> Any:
            return tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)

        for _ in range(2):
            for variable in variables:
                np.testing.assert_array_equal(read(variable.handle), variable)

    def test_nothing_is_returned(self, way: Any) -> None:
        counter = tf.Variable(0.0)

        @splitop.function
        def step(by: Any) -> None:
            counter.assign_add(by)

        assert [step(tf.constant(2.0)) for _ in range(3)] == [None] * 3
        assert float(counter) == 6.0
        assert len(way) == 2


class TestSurroundings:
    def test_inside_of_a_function(self, way: Any) -> None:
        double = splitop.function(lambda a: a + a)
        double(x()), double(x())
        outer = tf.function(lambda a: double(a) + 1)
        assert float(outer(x())[0, 0]) == 3.0
        assert len(way) == 1

    def test_in_a_graph(self) -> None:
        double = splitop.function(lambda a: a + a)
        double(x())
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            assert session.run(double(x()))[0, 0] == 2.0

    def test_a_tape_sees_it(self, way: Any) -> None:
        weight = tf.Variable(3.0)
        square = splitop.function(lambda a: tf.reduce_sum(weight * a * a))
        a = tf.constant([1.0, 2.0])
        for _ in range(2):
            square(a)
        with tf.GradientTape() as tape:
            tape.watch(a)
            y = square(a)
        gradients = tape.gradient(y, [a, weight])
        np.testing.assert_array_equal(gradients[0], [6.0, 12.0])
        assert float(gradients[1]) == 5.0
        assert len(way) == 1

    def test_eagerly(self, way: Any) -> None:
        seen = []

        def keep(a: Any) -> Any:
            seen.append(tf.executing_eagerly())
            return a + a

        double = splitop.function(keep)
        double(x())
        tf.config.run_functions_eagerly(True)
        try:
            double(x())
        finally:
            tf.config.run_functions_eagerly(False)
        assert seen == [False, True]
        assert not way

    def test_on_a_device_and_in_a_strategy(self, way: Any) -> None:
        double = splitop.function(lambda a: a + a)
        double(x())
        with tf.device("/CPU:0"):
            assert float(double(x())[0, 0]) == 2.0
        strategy = tf.distribute.OneDeviceStrategy("/CPU:0")
        with strategy.scope():
            assert float(double(x())[0, 0]) == 2.0
        assert float(strategy.run(double, (x(),))[0, 0]) == 2.0
        assert not way

    def test_threads(self, way: Any) -> None:
        total = tf.Variable(0.0)
        results = []

        @splitop.function
        def add(by: Any) -> Any:
            total.assign_add(by)
            return by * 2

        def work() -> None:
            results.extend(float(add(tf.constant(float(n)))) for n in range(50))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == sorted(2.0 * n for n in range(50) for _ in range(4))
        assert float(total) == 4 * sum(range(50))
        assert len(way) >= 4 * 49


class TestFunctions:
    def test_a_decorator_with_options(self) -> None:
        @splitop.function(autograph=False)
        def named(a: Any) -> Any:
            """Doubles."""
            return a + a

        assert named.__name__ == "named"
        assert named.__doc__ == "Doubles."
        assert named.get_concrete_function(x()).outputs[0].shape == [2, 3]

    def test_unknown_options(self) -> None:
        with pytest.raises(TypeError, match="nonsense"):
            splitop.function(lambda a: a, nonsense=1)

    def test_of_a_function_that_is_one(self, way: Any) -> None:
        double = splitop.function(lambda a: a + a)
        double(x())

        @splitop.function
        @functools.wraps(double)
        def more(a: Any) -> Any:
            return double(a) + 1

        compiled = splitop.function(double, jit_compile=True)
        for _ in range(3):
            assert float(more(x())[0, 0]) == 3.0
            assert float(compiled(x())[0, 0]) == 2.0
        assert compiled.experimental_get_tracing_count() == 1
        assert len(way) == 4

    @pytest.mark.parametrize("spec", [None, tf.TensorSpec([])], ids=["NaN", "signature"])
    def test_no_call_is_kept_that_never_comes_again(self, way: Any, spec: Any) -> None:
        signature = spec and [tf.TensorSpec([2, 3]), spec]
        scaled = splitop.function(lambda a, by: a * by, input_signature=signature)
        for step in range(5):
            scaled(x(), 0.1 * step if spec else float("nan"))
        assert not way
        assert not scaled._short_calls

    def test_methods(self, way: Any) -> None:
        class Counter:
            def __init__(self, start: float):
                self.value = tf.Variable(start)

            @splitop.function
            def add(self, by: Any) -> Any:
                return self.value.assign_add(by)

        counters = Counter(0.0), Counter(10.0)
        for _ in range(3):
            for counter in counters:
                counter.add(tf.constant(1.0))
        assert [float(counter.value) for counter in counters] == [3.0, 13.0]
        assert len(way) == 4
        assert isinstance(Counter.add, Function)

    @pytest.mark.parametrize(
        "default",
        [tf.constant(2.0), np.float32(2.0), tf.Variable(2.0)],
        ids=lambda d: type(d).__name__,
    )
    def test_a_default_that_is_a_tensor(self, way: Any, default: Any) -> None:
        def product(a: Any, b: Any = default) -> Any:
            return a * b

        multiply = splitop.function(product)
        for _ in range(3):
            assert float(multiply(tf.constant(3.0))) == 6.0
            assert float(multiply(tf.constant(3.0), tf.constant(5.0))) == 15.0
        assert len(way) == 2

    def test_a_saved_model_has_it(self, tmp_path: Any) -> None:
        class Scaled(tf.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = tf.Variable(2.0)

            @splitop.function(input_signature=[tf.TensorSpec([None], tf.float32)])
            def method(self, a: Any) -> Any:
                return self.scale * a

        module = Scaled()
        module.call = splitop.function(lambda a: module.scale + a)
        for _ in range(2):
            assert float(module.call(tf.constant(3.0))) == 5.0
        tf.saved_model.save(module, tmp_path / "saved", signatures={"s": module.method})
        loaded = tf.saved_model.load(tmp_path / "saved")
        assert loaded.method(tf.constant([3.0])).numpy() == [6.0]
        assert float(loaded.call(tf.constant(3.0))) == 5.0
        assert loaded.signatures["s"](a=tf.constant([3.0]))

    def test_a_train_step_of_keras(self) -> None:
        class Model(keras.Model):
            def __init__(self) -> None:
                super().__init__()
                self.dense = keras.layers.Dense(1)

            def call(self, a: Any) -> Any:
                return self.dense(a)

            @splitop.function
            def train_step(self, data: Any) -> Any:
                return super().train_step(data)

        model = Model()
        model.compile("sgd", "mse")
        model.fit(np.ones([4, 3]), np.ones([4, 1]), verbose=0)
        assert int(model.optimizer.iterations) == 1

    def test_a_function_that_makes_variables(self, way: Any) -> None:
        made: list[Any] = []

        @splitop.function
        def count(by: Any) -> Any:
            if not made:
                made.append(tf.Variable(0.0))
            return made[0].assign_add(by)

        assert [float(count(tf.constant(1.0))) for _ in range(4)] == [1.0, 2.0, 3.0, 4.0]
        assert len(way) == 3

    def test_a_first_call_that_fails(self, way: Any) -> None:
        """With tf.function later calls return None and train nothing, or train and raise."""
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        optimizer, made, fails = keras.optimizers.Adam(0.1), [], [True]
        before = model.get_weights()

        @splitop.function
        def step(a: Any) -> Any:
            if not made:
                made.append(tf.Variable(2.0))
            iv = model(a)
            splitop.minimize(optimizer, iv, model.trainable_variables, tf.ones_like(iv))
            if fails[0]:
                raise RuntimeError("at the end")
            return made[0] * a

        with pytest.raises(RuntimeError, match="at the end"):
            step(x())
        for received, expected in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(received, expected)
        fails[0] = False
        for count in (1, 2, 3):
            np.testing.assert_array_equal(step(x()), 2 * x().numpy())
            assert int(optimizer.iterations) == count
        assert len(way) == 2

    def test_what_it_keeps_goes_with_it(self) -> None:
        variable = tf.Variable(1.0)
        kept = weakref.ref(variable)
        read = splitop.function(functools.partial(tf.add, variable))
        del variable
        for _ in range(2):
            read(tf.constant(1.0))
        del read
        gc.collect()
        assert kept() is None

    def test_compiled(self, way: Any) -> None:
        double = splitop.function(lambda a: a + a, jit_compile=True)
        for value in (1.0, 2.0):
            assert float(double(x(value=value))[0, 0]) == 2 * value
        assert len(way) == 1
        # XLA has no strings.
        broken = splitop.function(lambda a: tf.strings.as_string(a), jit_compile=True)
        with pytest.raises(tf.errors.InvalidArgumentError):
            broken(x())

    def test_random_numbers_are_new_in_each_call(self, way: Any) -> None:
        draw = splitop.function(lambda a: tf.random.uniform([4]) + a)
        draws = {tuple(draw(tf.constant(0.0)).numpy()) for _ in range(4)}
        assert len(draws) == 4
        assert len(way) == 3

    def test_to_make_one_starts_nothing(self) -> None:
        program = """
import splitop, tensorflow as tf
splitop.function(lambda a: a)
tf.config.threading.set_intra_op_parallelism_threads(1)
"""
        subprocess.run([sys.executable, "-c", program], check=True)


class TestErrors:
    def test_an_error_is_tf_functions_own_kind_and_names_the_op(self, way: Any) -> None:
        @splitop.function
        def check(a: Any) -> Any:
            tf.debugging.assert_positive(a, message="a must be positive")
            return a * 2

        check(x()), check(x())
        with pytest.raises(tf.errors.InvalidArgumentError, match="a must be positive") as error:
            check(x(value=-1.0))
        assert "Detected at node" in error.value.message
        assert "test_function.py" in error.value.message
        assert float(check(x())[0, 0]) == 2.0
        assert len(way) == 3

    def test_a_step_that_fails_moves_nothing(self, way: Any) -> None:
        dense = keras.layers.Dense(3)
        dense.build([None, 3])
        optimizer = keras.optimizers.Adam()

        @splitop.function
        def step(a: Any, seed: Any) -> None:
            splitop.minimize(
                optimizer, dense(a), dense.trainable_variables, seed, check_numerics=True
            )

        step(x(), x()), step(x(), x())
        before = [v.numpy() for v in (*dense.variables, *optimizer.variables)]
        with pytest.raises(tf.errors.InvalidArgumentError, match="seed"):
            step(x(), x(value=float("nan")))
        for value, old in zip((*dense.variables, *optimizer.variables), before, strict=True):
            np.testing.assert_array_equal(value, old)
        step(x(), x())
        assert len(way) == 3


class TestTraining:
    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_twenty_steps_are_those_of_a_tf_function(self, way: Any, jit_compile: bool) -> None:
        inputs = [tf.random.stateless_normal([7, 5], [0, n]) for n in range(20)]
        seeds = [tf.random.stateless_normal([7, 3], [1, n]) for n in range(20)]
        results = []
        for wrap in (tf.function, splitop.function):
            keras.utils.set_random_seed(0)
            part = keras.Sequential(
                [keras.Input((5,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(3)]
            )
            optimizer = keras.optimizers.Adam(0.1)

            def step(a: Any, seed: Any, part: Any = part, optimizer: Any = optimizer) -> None:
                splitop.minimize(optimizer, part(a), part.trainable_variables, seed)

            train = wrap(step, jit_compile=jit_compile)
            for a, seed in zip(inputs, seeds, strict=True):
                train(a, seed)
            assert int(optimizer.iterations) == 20
            results.append([v.numpy() for v in (*part.variables, *optimizer.variables)])
        for ours, theirs in zip(*results, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert len(way) == 19

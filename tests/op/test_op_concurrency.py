"""Readers and writers at once: no torn read, no lost update, no deadlock."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tensorflow as tf

from splitop._src import ops
from tests.op.chains import CPU, plain_layer, session_config

BATCH, WIDTH = 4, 256
UPDATES = 150
STEP = 0.25  # lr * batch: every update takes exactly this from every element
# A deadlock shows as a timeout; no update takes anything near this.
DEADLOCK_SECONDS = 60


def step(layers, lr=STEP / BATCH):
    """One update of the given (kernel, bias) pairs, top first."""
    ones = tf.ones([BATCH, layers[0][1].shape[0]])
    operation, _ = ops.dense_chain(
        ones,
        [plain_layer(kernel, bias, ones) for kernel, bias in layers],
        rule="sgd",
        hyper=tf.constant([0.0, lr]),
        input_gradient=False,
        seed_name="seed",
    )
    return operation


def momentum(kernel, slot):
    """TensorFlow's own training op on two kernels; it changes nothing."""
    return tf.raw_ops.ResourceApplyMomentum(
        var=kernel.handle,
        accum=slot.handle,
        lr=0.0,
        grad=tf.zeros([2, 2]),
        momentum=1.0,
    )


def function(layers):
    """A tf.function that runs one update."""

    @tf.function(autograph=False)
    def run():
        step(layers)

    return run


def variables(count, width=WIDTH):
    """Pairs of a kernel and a bias whose elements are all the same."""
    return [
        (tf.Variable(tf.fill([width, width], 1000.0)), tf.Variable(tf.fill([width], 1000.0)))
        for _ in range(count)
    ]


def together(*jobs):
    """Runs all jobs at once, each on its own thread; re-raises their errors."""
    start = threading.Barrier(len(jobs))
    errors = []

    def run(job):
        start.wait()
        try:
            job()
        except BaseException as error:
            errors.append(error)

    # Daemons, or threads in a deadlock would keep the test process alive.
    threads = [threading.Thread(target=run, args=[job], daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLOCK_SECONDS)
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    if errors:
        raise errors[0]


def assert_whole(value):
    """All elements come from between the same two updates."""
    assert value.min() == value.max()


class Counter:
    """Runs updates, and tells the readers when the last writer is through."""

    def __init__(self, writers):
        self._writers = writers
        self._lock = threading.Lock()

    def write(self, update):
        try:
            for _ in range(UPDATES):
                update()
        finally:
            with self._lock:
                self._writers -= 1

    def read(self, read):
        while self._writers:
            for value in read():
                assert_whole(np.asarray(value))


def test_sessions_that_update_and_read_the_same_variables():
    with tf.Graph().as_default() as graph, tf.device(CPU):
        pairs = variables(1)
        update = step(pairs)
        reads = [variable.read_value() for variable in pairs[0]]
        initialize = tf.compat.v1.global_variables_initializer()
        server = tf.distribute.Server.create_local_server()
        sessions = [tf.compat.v1.Session(server.target, graph=graph) for _ in range(2)]
        sessions[0].run(initialize)
        counter = Counter(writers=2)
        together(
            *(lambda s=s: counter.write(lambda: s.run(update)) for s in sessions),
            *(lambda s=s: counter.read(lambda: s.run(reads)) for s in sessions),
        )
        for value in sessions[1].run(reads):
            np.testing.assert_array_equal(value, 1000 - 2 * UPDATES * STEP)


def test_threads_that_update_and_read_the_same_variables(device):
    with tf.device(device):
        pairs = variables(1)
    update = function(pairs)
    update()
    counter = Counter(writers=2)
    together(
        lambda: counter.write(update),
        lambda: counter.write(update),
        lambda: counter.read(lambda: [variable.numpy() for variable in pairs[0]]),
    )
    for variable in pairs[0]:
        np.testing.assert_array_equal(variable, 1000 - (2 * UPDATES + 1) * STEP)


@pytest.mark.parametrize("count", [2, 4])
def test_opposite_orders_of_variables(count):
    """Small ops, so that most of the time goes into taking locks; TensorFlow's own in between."""
    with tf.Graph().as_default(), tf.device(CPU), tf.compat.v1.Session() as session:
        pairs = variables(count, width=2)
        updates = []
        for _ in range(50):
            updates += [step(pairs, lr=0.0), step(pairs[::-1], lr=0.0)]
            (first, _), (second, _) = pairs[:2]
            updates += [momentum(first, second), momentum(second, first)]
        session.run(tf.compat.v1.global_variables_initializer())
        together(*(lambda: [session.run(updates) for _ in range(30)] for _ in range(2)))
        for values in session.run(pairs):
            np.testing.assert_array_equal(values[0], 1000)
            np.testing.assert_array_equal(values[1], 1000)


def test_many_updates_in_one_run(device):
    """More ops at once than there are threads: none may wait for a thread that never comes."""
    with tf.Graph().as_default(), tf.compat.v1.Session(config=session_config()) as session:
        with tf.device(device):
            chains = [variables(2) for _ in range(16)]
        updates = [step(pairs) for pairs in chains]
        session.run(tf.compat.v1.global_variables_initializer())
        together(*(lambda: [session.run(updates) for _ in range(10)] for _ in range(3)))
        biases = session.run([pairs[0][1] for pairs in chains])
    for bias in biases:
        np.testing.assert_array_equal(bias, 1000 - 30 * STEP)

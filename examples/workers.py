"""Train a model in two parts in two worker processes; one is killed, and both start again.

    python examples/workers.py

On several machines, run `train` once on each, with a TF_CONFIG that names all of them, and a
directory that all of them have. Ends in about a minute.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile

import keras
import numpy as np

import splitop

EPOCHS, BATCH, ROWS = 12, 64, 1024


def train(directory, last_epoch):
    """What each worker does; it dies when it has reached `last_epoch`."""
    strategy = splitop.multi_worker_strategy(timeout_seconds=10)  # before anything else
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, 20)).astype("float32")
    y = np.tanh(x @ random.normal(size=(20, 1))).astype("float32")
    keras.utils.set_random_seed(0)
    with strategy.scope():
        second = keras.Sequential([keras.Input((20,)), keras.layers.Dense(64, "relu")])
        first = keras.Sequential([keras.Input((64,)), keras.layers.Dense(1)])
        model = splitop.keras.SplitModel(second, first)
        model.compile(
            first_optimizer=keras.optimizers.SGD(0.05),
            second_optimizer=keras.optimizers.AdamW(3e-3),
            loss="mse",
        )
    checkpoint = splitop.keras.SplitCheckpoint(directory)  # one for all workers
    done = (checkpoint.latest or 0) // (ROWS // BATCH)
    show = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: epoch == last_epoch and _die(),
        on_epoch_end=lambda epoch, logs: print(f"epoch {epoch}: loss {logs['loss']:.4f}"),
    )
    # The batch is that of all workers together.
    model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=EPOCHS,
        initial_epoch=done,
        verbose=0,
        callbacks=[show, checkpoint],
    )


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def run_both(directory, last_epoch=None):
    """Starts both workers, of which the second one may die."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    workers = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        dies = -1 if last_epoch is None or index == 0 else last_epoch
        workers.append(
            subprocess.Popen(
                [sys.executable, __file__, directory, str(dies)],
                env=os.environ | {"TF_CONFIG": config, "TF_CPP_MIN_LOG_LEVEL": "2"},
                stdout=None if index == 0 else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    errors = [worker.communicate()[1] for worker in workers]
    for index, worker in enumerate(workers):
        if worker.returncode == -signal.SIGKILL:
            print(f"worker {index} was killed")
        elif worker.returncode:
            print(f"worker {index}: {errors[index].strip().splitlines()[-1]}")
    return [worker.returncode for worker in workers]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(sys.argv[1], int(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            run_both(folder, last_epoch=5)
            print("both start again", flush=True)
            sys.exit(any(run_both(folder)))

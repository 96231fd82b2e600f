"""Two-tower retrieval with in-batch negatives, in micro-batches.

Queries and documents are two noisy views of the same hidden vectors. Each tower maps its view to a
unit vector, and the loss asks every query to be closest to its own document among all documents of
the batch: so it needs the vectors of the whole batch at once, and gets better with large batches.
The towers' activations, which fill the memory, are kept for one micro-batch only.

    python examples/gradient_caching.py                    # trains, then measures memory
    python examples/gradient_caching.py --plot memory.png
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

FEATURES, HIDDEN, OUTPUTS, HELD_OUT = 64, 32, 64, 512


def views(random: Any, rows: int, world: tuple[Any, Any]) -> tuple[Any, Any]:
    """A batch: rows of queries, and of the documents that belong to them."""
    import numpy as np

    hidden = random.normal(size=(rows, HIDDEN))
    noisy = (np.tanh(hidden @ w) + 0.5 * random.normal(size=(rows, FEATURES)) for w in world)
    queries, documents = (view.astype("float32") for view in noisy)
    return queries, documents


def make_step(width: int, layers: int, micro_batch: int | None) -> tuple[Any, Any]:
    """The towers, and a training step on queries and documents; None: the plain whole batch."""
    import keras
    import tensorflow as tf

    import splitop

    def tower() -> keras.Model:
        hidden = [keras.layers.Dense(width, "relu") for _ in range(layers)]
        last = [keras.layers.Dense(OUTPUTS), keras.layers.UnitNormalization()]
        return keras.Sequential([keras.Input((FEATURES,)), *hidden, *last])

    query_tower, document_tower = tower(), tower()
    variables = query_tower.trainable_variables + document_tower.trainable_variables
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(variables)

    def towers(batch: tuple[Any, Any]) -> tuple[Any, Any]:  # the second part
        return query_tower(batch[0]), document_tower(batch[1])

    def contrastive(iv: tuple[Any, Any]) -> Any:  # the first part: it has no variables
        similar = tf.matmul(iv[0], iv[1], transpose_b=True) / 0.1
        labels = tf.range(tf.shape(similar)[0])
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, similar))

    @tf.function(reduce_retracing=True)
    def step(batch: tuple[Any, Any]) -> Any:
        if micro_batch is None:
            loss = contrastive(towers(batch))
            splitop.minimize(optimizer, loss, variables)
            return loss
        chunks = splitop.MicroBatches(towers, batch, size=micro_batch)
        loss = contrastive(chunks.iv)
        seeds = tf.gradients(loss, list(chunks.iv))  # dL/dIV of the whole batch
        chunks.minimize(optimizer, variables, tuple(seeds))
        return loss

    return towers, step


def train(args: argparse.Namespace) -> float:
    """Trains in micro-batches; returns how often the right document comes first."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    world = tuple(random.normal(size=(HIDDEN, FEATURES)) / np.sqrt(HIDDEN) for _ in range(2))
    towers, step = make_step(args.train_width, 1, args.size)
    held_out = views(random, HELD_OUT, world)

    def accuracy() -> float:
        queries, documents = (np.asarray(vectors) for vectors in towers(held_out))
        return float(np.mean(np.argmax(queries @ documents.T, 1) == np.arange(HELD_OUT)))

    print(f"before training: {accuracy():.1%} of {HELD_OUT} held-out queries find their document")
    for number in range(1, args.steps + 1):
        loss = step(views(random, args.train_batch, world))
        if number % max(args.steps // 4, 1) == 0:
            print(f"step {number}: loss {float(loss):.3f}, accuracy {accuracy():.1%}")
    return accuracy()


def measure(args: argparse.Namespace) -> int:
    """Takes two steps on a batch in this process; returns the bytes that they have added."""
    import numpy as np

    _, step = make_step(args.width, args.layers, args.micro)
    batch = tuple(np.zeros((args.batch, FEATURES), "float32") for _ in range(2))
    step(tuple(rows[:1] for rows in batch))  # traces, and allocates what does not depend on it
    before = peak()
    for _ in range(2):
        step(batch)
    return peak() - before


def peak() -> int:
    """The most bytes that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_elsewhere(args: argparse.Namespace, batch: int, micro: int | None) -> float:
    """Megabytes by `measure` in a process of its own, as a peak never goes down."""
    call = [sys.executable, __file__, "--batch", str(batch), "--width", str(args.width)]
    call += ["--layers", str(args.layers)] + ([] if micro is None else ["--micro", str(micro)])
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1]) / 1e6


def plot(path: str, batches: list[int], whole: list[float], micro: list[float], size: int) -> None:
    """Memory against batch size, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    axes.plot(batches, whole, "o-", label="whole batch")
    axes.plot(batches, micro, "o-", label=f"micro-batches of {size}")
    axes.set(xlabel="batch size", ylabel="peak memory of a step (MB)", xscale="log", yscale="log")
    axes.legend()
    figure.savefig(path)
    print(f"wrote {path}")


def main() -> None:
    """Trains, then measures memory against batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="rows of a micro-batch")
    parser.add_argument("--steps", type=int, default=120, help="training steps")
    parser.add_argument("--train-batch", type=int, default=512, help="batch size in training")
    parser.add_argument("--train-width", type=int, default=128, help="units of the hidden layer")
    parser.add_argument("--batches", type=int, nargs="*", default=[512, 2048], help="to measure")
    parser.add_argument("--width", type=int, default=512, help="units of the layers measured")
    parser.add_argument("--layers", type=int, default=8, help="hidden layers of a tower measured")
    parser.add_argument("--plot", metavar="FILE", help="write a picture of the memory")
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)  # of a measuring process
    parser.add_argument("--micro", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.batch is not None:
        print(json.dumps(measure(args)))
        return
    print(f"final accuracy: {train(args):.1%}")
    whole, micro = [], []
    for batch in args.batches:
        whole.append(measure_elsewhere(args, batch, None))
        micro.append(measure_elsewhere(args, batch, args.size))
        print(
            f"batch {batch}: a step takes {whole[-1]:.0f} MB on the whole batch, "
            f"{micro[-1]:.0f} MB in micro-batches of {args.size}"
        )
    if args.plot:
        plot(args.plot, args.batches, whole, micro, args.size)


if __name__ == "__main__":
    main()

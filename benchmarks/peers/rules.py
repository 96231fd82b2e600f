"""The optimizers' settings, the same everywhere."""

from __future__ import annotations

from benchmarks.peers.cases import ADAGRAD, ADAM, ADAMW, MOMENTUM, SGD

RATE = {SGD: 1e-2, MOMENTUM: 1e-2, ADAM: 1e-3, ADAMW: 1e-3, ADAGRAD: 1e-2}
MOMENTUM_FACTOR = 0.9
BETA1 = 0.9
BETA2 = 0.999
# torch adds it to a root that it has corrected for bias, TensorFlow and Keras to one that is not.
EPSILON = 1e-8
WEIGHT_DECAY = 1e-2
INITIAL_ACCUMULATOR = 0.1

"""Prints a digest of what training with the op gives: `same_bits.py <threads>`.

A process of its own, because TensorFlow's intra-op pool is made once a process.
"""

from __future__ import annotations

import hashlib
import sys

import tensorflow as tf

from tests.op.chains import PROGRAMS, make_chain

# Enough work for several threads, and sizes that no tile divides.
WIDTHS = (131, 257, 509)


def digest(kind: str, rule: str, forward: bool) -> str:
    chain = make_chain(WIDTHS, batch=67, activations=("tanh", "relu"), rule=rule, forward=forward)
    run = PROGRAMS[kind](chain)
    total = hashlib.sha256()
    for _ in range(3):
        total.update(run.run(chain.tensors()).tobytes())
    for value in run.state().values():
        total.update(value.tobytes())
    run.close()
    return total.hexdigest()


def main() -> None:
    tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
    for rule in ("sgd", "momentum", "adam"):
        for forward in (False, True):
            for kind in PROGRAMS:
                print(rule, forward, digest(kind, rule, forward))


if __name__ == "__main__":
    main()

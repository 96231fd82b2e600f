"""Small second parts with embedding tables, each with what the planner has to find in it.

A lookup is a function of a `Weights` and the ids; it returns the intermediate vector.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.planner.models import DTYPE, Weights, dense

ROWS, WIDTH = 10, 4

# A batch of bags. Ids are repeated within bags and across them; 0 pads a bag that is shorter.
IDS = np.array([[3, 1, 3], [1, 1, 7], [5, 0, 0], [9, 2, 0], [3, 3, 3], [2, 8, 1]])
LENGTH = IDS.shape[1]


@dataclasses.dataclass(frozen=True)
class Lookup:
    """A second part and what is expected of the planner.

    Attributes:
        build: Computes the intermediate vector from Weights and the ids.
        tables: The combiner of each planned table.
        chains: The kernels of each chain, from the top down; chains in any order.
        updated: The variables whose update alone is fused, with words from the reason.
    """

    build: Callable[[Weights, Any], Any]
    tables: dict[str, str | None]
    chains: tuple[tuple[str, ...], ...] = (("top_k",),)
    updated: dict[str, str] = dataclasses.field(default_factory=dict)


def table(w: Weights) -> tf.Variable:
    return w("table", ROWS, WIDTH)


def _top(w: Weights, h: Any) -> Any:
    return dense(w, "top", h, 5, "relu")


def _flat(w: Weights, rows: Any, width: int = LENGTH * WIDTH) -> Any:
    return _top(w, tf.reshape(rows, [-1, width]))


def _sparse(ids: Any) -> Any:
    return tf.sparse.from_dense(tf.cast(ids, tf.int64))


def _ragged(ids: Any) -> Any:
    return tf.RaggedTensor.from_tensor(ids, padding=0)


def _combined(combiner: str, *, weighted: bool = False, safe: bool = False) -> Any:
    def build(w: Weights, ids: Any) -> Any:
        ids = _sparse(ids)
        weights = ids.with_values(2 + tf.sin(tf.cast(ids.values, DTYPE))) if weighted else None
        name = "safe_embedding_lookup_sparse" if safe else "embedding_lookup_sparse"
        return _top(w, getattr(tf.nn, name)(table(w), ids, weights, combiner=combiner))

    return build


def _keras(w: Weights, ids: Any, **options: Any) -> Any:
    return w.layer("emb", keras.layers.Embedding, ids, input_dim=ROWS, output_dim=WIDTH, **options)


def _keras_top(w: Weights, h: Any) -> Any:
    return w.layer("top", keras.layers.Dense, h, units=5, activation="relu")


def _keras_flatten(w: Weights, ids: Any) -> Any:
    return _keras_top(w, keras.layers.Flatten(dtype="float64")(_keras(w, ids)))


def _keras_average(w: Weights, ids: Any, **options: Any) -> Any:
    pool = keras.layers.GlobalAveragePooling1D(dtype="float64")
    return _keras_top(w, pool(_keras(w, ids, **options)))


def _keras_masked(w: Weights, ids: Any) -> Any:
    return _keras_average(w, ids, mask_zero=True)


def _masked_sum(w: Weights, ids: Any) -> Any:
    mask = tf.cast(ids > 0, DTYPE)[:, :, tf.newaxis]
    return _top(w, tf.reduce_sum(tf.gather(table(w), ids) * mask, 1))


def _two_lookups(w: Weights, ids: Any) -> Any:
    rows = [tf.gather(table(w), ids[:, position]) for position in range(2)]
    return _top(w, rows[0] * rows[1])


def _bag_and_plain(w: Weights, ids: Any) -> Any:
    bag = tf.reduce_sum(tf.gather(table(w), ids), 1)
    return _top(w, tf.concat([bag, tf.gather(table(w), ids[:, 0])], 1))


def _two_kinds_of_bags(w: Weights, ids: Any) -> Any:
    combined = tf.nn.embedding_lookup_sparse(table(w), _sparse(ids), None, combiner="mean")
    return _top(w, combined * tf.reduce_mean(tf.gather(table(w), ids), 1))


def _two_layers(w: Weights, ids: Any) -> Any:
    rows = tf.gather(table(w), ids[:, 0])
    return dense(w, "left", rows, 5, "relu") + dense(w, "right", rows, 5, "tanh")


def _tied(w: Weights, ids: Any) -> Any:
    h = dense(w, "top", tf.gather(table(w), ids[:, 0]), WIDTH, "tanh")
    return tf.matmul(h, table(w), transpose_b=True)


def _read_elsewhere(w: Weights, ids: Any) -> Any:
    h = dense(w, "top", tf.gather(table(w), ids[:, 0]), WIDTH, "tanh")
    return tf.matmul(h, tf.stop_gradient(table(w)), transpose_b=True)


def _several_tables(w: Weights, ids: Any) -> Any:
    rows = [tf.gather(w(f"table_{i}", ROWS, i + 2), ids[:, i]) for i in range(LENGTH)]
    return _top(w, tf.concat(rows, 1))


def _partitioned(w: Weights, ids: Any) -> Any:
    parts = [w(f"table_{i}", ROWS // 2, WIDTH) for i in range(2)]
    return _top(w, tf.nn.embedding_lookup(parts, ids[:, 0]))


def _deep(w: Weights, ids: Any) -> Any:
    h = tf.reshape(tf.gather(table(w), ids), [-1, LENGTH * WIDTH])
    return _top(w, dense(w, "low", h, 6, "relu"))


LOOKUPS = {
    "gather": Lookup(lambda w, ids: _flat(w, tf.gather(table(w), ids)), {"table": None}),
    "one id each": Lookup(lambda w, ids: _top(w, tf.gather(table(w), ids[:, 0])), {"table": None}),
    "ids of rank 3": Lookup(
        lambda w, ids: _flat(w, tf.gather(table(w), ids[:, tf.newaxis])), {"table": None}
    ),
    "gather_nd": Lookup(
        lambda w, ids: _top(w, tf.gather_nd(table(w), ids[:, :1])), {"table": None}
    ),
    "embedding_lookup": Lookup(
        lambda w, ids: _flat(w, tf.nn.embedding_lookup(table(w), ids)), {"table": None}
    ),
    "embedding_lookup, clipped": Lookup(
        lambda w, ids: _flat(w, tf.nn.embedding_lookup(table(w), ids, max_norm=1.0)),
        {"table": None},
    ),
    "embedding_lookup, partitioned": Lookup(_partitioned, {"table_0": None, "table_1": None}),
    "the vector itself": Lookup(lambda w, ids: tf.gather(table(w), ids), {"table": None}, ()),
    "deep": Lookup(_deep, {"table": None}, (("top_k", "low_k"),)),
    "keras, flattened": Lookup(_keras_flatten, {"emb/embeddings": None}, (("top/kernel",),)),
    "keras, sequence": Lookup(
        lambda w, ids: _keras_top(w, _keras(w, ids)), {"emb/embeddings": None}, (("top/kernel",),)
    ),
    "keras, average": Lookup(_keras_average, {"emb/embeddings": "sum"}, (("top/kernel",),)),
    "keras, masked average": Lookup(_keras_masked, {"emb/embeddings": None}, (("top/kernel",),)),
    **{
        f"sparse, {combiner}": Lookup(_combined(combiner), {"table": combiner})
        for combiner in ("sum", "mean", "sqrtn")
    },
    **{
        f"sparse, weighted {combiner}": Lookup(_combined(combiner, weighted=True), {"table": None})
        for combiner in ("sum", "mean", "sqrtn")
    },
    "safe, mean": Lookup(_combined("mean", safe=True), {"table": "mean"}),
    "safe, weighted mean": Lookup(_combined("mean", weighted=True, safe=True), {"table": None}),
    "ragged, sum": Lookup(
        lambda w, ids: _top(w, tf.reduce_sum(tf.nn.embedding_lookup(table(w), _ragged(ids)), 1)),
        {"table": "sum"},
    ),
    "ragged, mean": Lookup(
        lambda w, ids: _top(w, tf.reduce_mean(tf.gather(table(w), _ragged(ids)), 1)),
        {"table": "sum"},
    ),
    "padded, sum": Lookup(
        lambda w, ids: _top(w, tf.reduce_sum(tf.gather(table(w), ids), 1)), {"table": "sum"}
    ),
    "padded, mean": Lookup(
        lambda w, ids: _top(w, tf.reduce_mean(tf.gather(table(w), ids), 1)), {"table": "sum"}
    ),
    "padded, masked sum": Lookup(_masked_sum, {"table": None}),
    "sum over the batch": Lookup(
        lambda w, ids: _top(w, tf.reduce_sum(tf.gather(table(w), ids), 0)), {"table": None}
    ),
    "rows are scalars": Lookup(
        lambda w, ids: _top(w, tf.gather(w("table", ROWS), ids)), {"table": None}
    ),
    "rows are scalars, sum": Lookup(
        lambda w, ids: tf.reduce_sum(tf.gather(w("table", ROWS), ids), 1), {"table": "sum"}, ()
    ),
    "rows are matrices": Lookup(
        lambda w, ids: _flat(w, tf.gather(w("table", ROWS, 2, 3), ids), LENGTH * 6),
        {"table": None},
    ),
    "rows are matrices, sum": Lookup(
        lambda w, ids: _flat(w, tf.reduce_sum(tf.gather(w("table", ROWS, 2, 3), ids), 1), 6),
        {"table": "sum"},
    ),
    "two lookups": Lookup(_two_lookups, {"table": None}),
    "bag and plain": Lookup(_bag_and_plain, {"table": None}),
    "two kinds of bags": Lookup(_two_kinds_of_bags, {"table": None}),
    "two layers": Lookup(_two_layers, {"table": None}, (("left_k",), ("right_k",))),
    "several tables": Lookup(_several_tables, {f"table_{i}": None for i in range(LENGTH)}),
    "tied": Lookup(_tied, {}, updated={"table": "more than one place"}),
    "read elsewhere": Lookup(_read_elsewhere, {"table": None}),
    "second axis": Lookup(
        lambda w, ids: _top(w, tf.gather(w("table", WIDTH, ROWS), ids[0], axis=1)),
        {},
        updated={"table": "computed by Transpose"},
    ),
    "not of the variable": Lookup(
        lambda w, ids: _top(w, tf.gather(2 * table(w), ids[:, 0])),
        {},
        updated={"table": "computed by Mul"},
    ),
}

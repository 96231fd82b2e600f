"""Small second parts, each with what the planner has to find in it.

A model is a function of a `Weights` and the input; it returns the intermediate vector.
Everything is float64: a wrong gradient shows in the first digits, a different order of
summation in the last ones.
"""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

BATCH = 6
FEATURES = 8
DTYPE = tf.float64

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "linear": tf.identity,
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "leaky_relu": tf.nn.leaky_relu,
    "elu": tf.nn.elu,
    "selu": tf.nn.selu,
    "tanh": tf.nn.tanh,
    "sigmoid": tf.nn.sigmoid,
    "softplus": tf.nn.softplus,
    "silu": tf.nn.silu,
    "gelu": tf.nn.gelu,
}


class Weights:
    """Makes each variable and each Keras layer once, and gives it again when asked again."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self.frozen: set[str] = set()

    def __call__(self, name: str, *shape: int, frozen: bool = False) -> tf.Variable:
        if name not in self._made:
            value = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
            scaled = value / np.sqrt(shape[0]) if len(shape) > 1 else value
            self._made[name] = tf.Variable(scaled, dtype=DTYPE, name=name)
        if frozen:
            self.frozen.add(name)
        return self._made[name]

    def layer(self, name: str, factory: Callable[..., Any], *x: Any, **options: Any) -> Any:
        if name not in self._made:
            layer = factory(name=name, dtype="float64", **options)
            layer.build(*[tensor.shape for tensor in x])
            self._made[name] = layer
        return self._made[name](*x)

    @property
    def variables(self) -> list[Any]:
        """All that is to be trained, in the order of creation."""
        found: list[Any] = []
        for name, made in self._made.items():
            if isinstance(made, keras.layers.Layer):
                found += made.trainable_variables
            elif name not in self.frozen:
                found.append(made)
        return found


def dense(
    w: Weights, name: str, x: Any, units: int, activation: str = "linear", *, bias: bool = True
) -> Any:
    """A dense layer in plain TensorFlow: variables "<name>_k" and "<name>_b"."""
    z = tf.matmul(x, w(f"{name}_k", x.shape[-1], units))
    if bias:
        z = z + w(f"{name}_b", units)
    return ACTIVATIONS[activation](z) if activation != "linear" else z


@dataclasses.dataclass(frozen=True)
class Model:
    """A second part and what is expected of the planner.

    Attributes:
        build: Computes the intermediate vector from Weights and the input.
        chains: The kernels of each chain, from the top down; chains in any order.
        updated: The variables whose update alone is fused, with words from the reason.
        shape: The input's shape; None is the batch.
        modes: Where it is tested: in a TF1 "graph", in a tf.function ("function").
        declined: Every other variable, with words from the reason.
        tables: The embedding tables that are fused.
    """

    build: Callable[[Weights, Any], Any]
    chains: tuple[tuple[str, ...], ...]
    updated: dict[str, str] = dataclasses.field(default_factory=dict)
    shape: tuple[int | None, ...] = (None, FEATURES)
    modes: tuple[str, ...] = ("graph",)
    declined: dict[str, str] = dataclasses.field(default_factory=dict)
    tables: tuple[str, ...] = ()


def _dropout(w: Weights, x: Any) -> Any:
    h = dense(w, "low", x, 7, "relu")
    h = tf.nn.experimental.stateless_dropout(h, 0.5, seed=[3, 4])
    return dense(w, "top", h, 5, "tanh")


def _gelu(w: Weights, x: Any) -> Any:
    return dense(w, "top", tf.nn.gelu(dense(w, "low", x, 7)), 5, "relu")


def _batch_norm(w: Weights, x: Any) -> Any:
    h = dense(w, "low", x, 7, bias=False)
    mean, variance = tf.nn.moments(h, [0])
    h = tf.nn.batch_normalization(h, mean, variance, w("beta", 7), w("gamma", 7), 1e-3)
    return dense(w, "top", tf.nn.relu(h), 5, "relu")


def _keras_batch_norm(w: Weights, x: Any) -> Any:
    h = dense(w, "low", x, 7, bias=False)
    h = w.layer("norm", keras.layers.BatchNormalization, h)
    return dense(w, "top", tf.nn.relu(h), 5, "relu")


def _layer_norm(w: Weights, x: Any) -> Any:
    h = w.layer("norm", keras.layers.LayerNormalization, dense(w, "low", x, 7, "relu"))
    return dense(w, "top", h, 5, "relu")


def _conv_stem(w: Weights, x: Any) -> Any:
    h = tf.nn.relu(tf.nn.conv2d(x, w("conv", 3, 3, 1, 2), 1, "VALID"))
    h = tf.reshape(h, [-1, 2 * 2 * 2])
    return dense(w, "top", dense(w, "low", h, 6, "relu"), 5, "relu")


def _embedding(w: Weights, x: Any) -> Any:
    ids = tf.cast(tf.abs(x[:, :2]) * 3, tf.int32) % 10
    h = tf.reshape(tf.gather(w("table", 10, 4), ids), [-1, 8])
    return dense(w, "top", h, 5, "relu")


def _tied(w: Weights, x: Any) -> Any:
    code = tf.nn.tanh(tf.matmul(dense(w, "low", x, 7, "relu"), w("tied", 7, 4)))
    return dense(w, "top", tf.matmul(code, w("tied", 7, 4), transpose_b=True), 5)


def _transposed(w: Weights, x: Any) -> Any:
    h = tf.nn.tanh(tf.matmul(x, w("flipped", 7, FEATURES), transpose_b=True) + w("flipped_b", 7))
    return dense(w, "top", h, 5, "relu")


def _shared_layer(w: Weights, x: Any) -> Any:
    h = dense(w, "low", x, 7, "relu")
    for _ in range(2):
        h = dense(w, "shared", h, 7, "tanh")
    return dense(w, "top", h, 5, "relu")


def _shared_bias(w: Weights, x: Any) -> Any:
    h = tf.nn.relu(tf.matmul(x, w("low_k", FEATURES, 7)) + w("both_b", 7))
    return tf.nn.relu(tf.matmul(h, w("top_k", 7, 7)) + w("both_b", 7))


def _residual(w: Weights, x: Any) -> Any:
    h = dense(w, "low", x, 7, "relu")
    h = h + dense(w, "middle_2", dense(w, "middle_1", h, 9, "relu"), 7)
    return dense(w, "top", h, 5, "relu")


def _two_branches(w: Weights, x: Any) -> Any:
    stem = dense(w, "stem", x, 7, "relu")
    left = dense(w, "left_2", dense(w, "left_1", stem, 6, "relu"), 4, "tanh")
    right = dense(w, "right", stem, 3, "sigmoid")
    return dense(w, "top", tf.concat([left, right], axis=1), 5)


def _sum_of_products(w: Weights, x: Any) -> Any:
    left, right = tf.split(x, 2, axis=1)
    z = tf.matmul(left, w("left", 4, 5)) + tf.matmul(right, w("right", 4, 5)) + w("sum_b", 5)
    return tf.nn.relu(z)


def _two_ivs(w: Weights, x: Any) -> Any:
    stem = dense(w, "stem", x, 7, "relu")
    return {"a": dense(w, "a", stem, 5, "relu"), "b": [dense(w, "b", stem, 3, "tanh")]}


def _rank_3(w: Weights, x: Any) -> Any:
    h = w.layer("low", keras.layers.Dense, x, units=7, activation="relu")
    return w.layer("top", keras.layers.Dense, h, units=5, activation="softplus")


def _tensordot(w: Weights, x: Any) -> Any:
    h = tf.nn.elu(tf.tensordot(x, w("low_k", FEATURES, 7), 1) + w("low_b", 7))
    return tf.nn.tanh(tf.tensordot(h, w("top_k", 7, 5), 1) + w("top_b", 5))


def _flattened(w: Weights, x: Any) -> Any:
    h = w.layer("low", keras.layers.Dense, x, units=7, activation="relu")
    return dense(w, "top", tf.reshape(h, [-1, 3 * 7]), 5, "relu")


def _batched_product(w: Weights, x: Any) -> Any:
    return tf.nn.relu(tf.matmul(x, w("low_k", FEATURES, 7)) + w("low_b", 7))


def _batched_products(w: Weights, x: Any) -> Any:
    h = tf.nn.tanh(tf.matmul(x, w("low_k", FEATURES, 7)) + w("low_b", 7))
    h = w.layer("middle", keras.layers.Dense, h, units=6, activation="relu")
    return tf.matmul(h, w("top_k", 6, 5)) + w("top_b", 5)


def _tensordot_heads(w: Weights, x: Any) -> Any:
    h = tf.nn.relu(tf.tensordot(x, w("low_k", FEATURES, 2, 3), 1) + w("low_b", 2, 3))
    return tf.tensordot(h, w("top_k", 2, 3, 5), 2) + w("top_b", 5)


def _einsum_heads(w: Weights, x: Any) -> Any:
    h = tf.einsum("btd,dhk->bthk", x, w("low_k", FEATURES, 2, 3)) + w("low_b", 2, 3)
    return tf.einsum("hkd,bthk->btd", w("top_k", 2, 3, 5), tf.nn.relu(h)) + w("top_b", 5)


def _einsum_dots(w: Weights, x: Any) -> Any:
    h = tf.nn.relu(tf.einsum("...d,dhk->...hk", x, w("low_k", FEATURES, 2, 3)) + w("low_b", 2, 3))
    return tf.einsum("...hk,hkd->...d", h, w("top_k", 2, 3, 5)) + w("top_b", 5)


def _einsum_dense(w: Weights, x: Any, *, bias: bool = True) -> Any:
    h = w.layer(
        "low",
        keras.layers.EinsumDense,
        x,
        equation="abc,cde->abde",
        output_shape=(None, 2, 3),
        bias_axes="de" if bias else None,
        activation="relu",
    )
    return w.layer(
        "top",
        keras.layers.EinsumDense,
        h,
        equation="abcd,cde->abe",
        output_shape=(None, 5),
        bias_axes="e" if bias else None,
        activation="tanh",
    )


def _einsum_dense_dots(w: Weights, x: Any) -> Any:
    return w.layer(
        "top",
        keras.layers.EinsumDense,
        x,
        equation="...x,xy->...y",
        output_shape=5,
        bias_axes="y",
        activation="relu",
    )


def _attention(w: Weights, x: Any, *, bias: bool = True) -> Any:
    return w.layer(
        "mha", keras.layers.MultiHeadAttention, x, x, num_heads=2, key_dim=3, use_bias=bias
    )


def _cross_attention(w: Weights, x: Any) -> Any:
    other = tf.sin(x[:, :2])
    return w.layer("mha", keras.layers.MultiHeadAttention, x, other, num_heads=2, key_dim=3)


def _grouped_attention(w: Weights, x: Any) -> Any:
    return w.layer(
        "gqa",
        keras.layers.GroupQueryAttention,
        x,
        x,
        head_dim=3,
        num_query_heads=4,
        num_key_value_heads=2,
    )


def _encoder(w: Weights, x: Any) -> Any:
    h = dense(w, "embed", tf.reshape(x, [-1, FEATURES]), FEATURES)
    h = tf.reshape(h, tf.shape(x))
    h.set_shape(x.shape)
    for block in "ab":
        normed = w.layer(f"{block}_norm_1", keras.layers.LayerNormalization, h)
        attention = {"num_heads": 2, "key_dim": 3}
        h += w.layer(f"{block}_mha", keras.layers.MultiHeadAttention, normed, normed, **attention)
        normed = w.layer(f"{block}_norm_2", keras.layers.LayerNormalization, h)
        up = w.layer(f"{block}_up", keras.layers.Dense, normed, units=9, activation="relu")
        h += w.layer(f"{block}_down", keras.layers.Dense, up, units=FEATURES)
    return h


def _einsum_transposed(w: Weights, x: Any) -> Any:
    return tf.einsum("btd,ed->bte", x, w("flipped", 5, FEATURES)) + w("flipped_b", 5)


def _einsum_inputs_inside(w: Weights, x: Any) -> Any:
    return tf.einsum("btd,hdk->bthk", x, w("inside", 2, FEATURES, 3))


def _einsum_for_each_head(w: Weights, x: Any) -> Any:
    h = tf.reshape(x, [BATCH, 3, 2, 4])
    return tf.einsum("bthd,hdk->bthk", h, w("each", 2, 4, 3))


def _einsum_for_each_row(w: Weights, x: Any) -> Any:
    return tf.einsum("btd,bde->bte", x, w("each", BATCH, FEATURES, 5))


def _einsum_rows_swapped(w: Weights, x: Any) -> Any:
    return tf.einsum("btd,de->tbe", x, w("swapped", FEATURES, 5))


def _einsum_over_time(w: Weights, x: Any) -> Any:
    return tf.einsum("btd,ts->bsd", x, w("time", 3, 5))


def _batch_of_one(w: Weights, x: Any) -> Any:
    return tf.matmul(x, w("one", 1, FEATURES, 5))


def _kernel_first(w: Weights, x: Any) -> Any:
    return tf.matmul(w("first", 5, 3), x)


def _kernel_first_transposed(w: Weights, x: Any) -> Any:
    return tf.matmul(w("first", 3, 5), x, transpose_a=True)


def _batched_by_transpose(w: Weights, x: Any) -> Any:
    return tf.matmul(x, w("flipped", 5, FEATURES), transpose_b=True)


def _reshaped_kernel(w: Weights, x: Any) -> Any:
    return tf.matmul(x, tf.reshape(w("reshaped", 4, 10), [FEATURES, 5]))


def _wide_bias(w: Weights, x: Any) -> Any:
    h = tf.reshape(tf.matmul(x, w("k", FEATURES, 5)), [-1, 15])
    return tf.nn.relu(h + w("wide", 15))


def _lstm(w: Weights, x: Any) -> Any:
    return dense(w, "top", w.layer("lstm", keras.layers.LSTM, x, units=4), 5, "relu")


def _loop(w: Weights, x: Any) -> Any:
    h = dense(w, "low", x, 7, "relu")
    looped = w("looped", 7, 7)

    def body(i: Any, h: Any) -> tuple[Any, Any]:
        return i + 1, tf.tanh(tf.matmul(h, looped))

    h = tf.while_loop(lambda i, h: i < 3, body, (0, h))[1]
    return dense(w, "top", h, 5, "relu")


def _branch(w: Weights, x: Any) -> Any:
    h, inner = dense(w, "low", x, 7, "relu"), w("branched", 7, 7)
    h = tf.cond(tf.reduce_sum(x) > -1e9, lambda: tf.matmul(h, inner), lambda: h)
    return dense(w, "top", h, 5, "relu")


def _nested_function(w: Weights, x: Any) -> Any:
    inner = w("inner", FEATURES, 7)
    h = tf.function(lambda x: tf.nn.relu(tf.matmul(x, inner)))(x)
    return dense(w, "top", h, 5, "relu")


def _frozen_middle(w: Weights, x: Any) -> Any:
    h = dense(w, "low", x, 7, "relu")
    h = tf.nn.relu(tf.matmul(h, w("frozen", 7, 6, frozen=True)))
    return dense(w, "top", h, 5, "relu")


def _frozen_bias(w: Weights, x: Any) -> Any:
    h = tf.nn.relu(tf.matmul(x, w("low_k", FEATURES, 7)) + w("frozen", 7, frozen=True))
    return dense(w, "top", h, 5, "relu")


def _read_again_above(w: Weights, x: Any) -> Any:
    h = dense(w, "low", x, 7, "relu")
    kernel = w("top_k", 7, 7)
    return tf.matmul(tf.nn.relu(tf.matmul(h, kernel)), tf.stop_gradient(kernel))


def _read_again_below(w: Weights, x: Any) -> Any:
    h, kernel = dense(w, "low", x, 7, "relu"), w("top_k", 7, 7)
    h = tf.nn.relu(tf.matmul(h, tf.stop_gradient(kernel)))
    return tf.nn.relu(tf.matmul(h, kernel))


def _row_bias(w: Weights, x: Any) -> Any:
    z = tf.matmul(dense(w, "low", x, 7, "relu"), w("top_k", 7, 5))
    return tf.nn.relu(z + w("top_b", 1, 5))


def _row_bias_below(w: Weights, x: Any) -> Any:
    h = tf.matmul(x, w("low_k", FEATURES, 7)) + w("low_b", 1, 7)
    return dense(w, "top", h, 5, "relu")


def _scaled(w: Weights, x: Any) -> Any:
    return dense(w, "top", w("scale", FEATURES) * x, 5, "relu") * w("gain")


def _two_biases(w: Weights, x: Any) -> Any:
    return tf.nn.relu(dense(w, "top", x, 5) + w("extra_b", 5))


def _einsum(w: Weights, x: Any) -> Any:
    return dense(w, "top", tf.einsum("bi,hio->bho", x, w("heads", 2, FEATURES, 3))[:, 0], 5, "relu")


def _loss(w: Weights, x: Any) -> Any:
    logits = dense(w, "logits", dense(w, "low", x, 7, "relu"), 4)
    labels = tf.cast(tf.abs(x[:, 0]) * 4, tf.int32) % 4
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses)


def _regularised_loss(w: Weights, x: Any) -> Any:
    return _loss(w, x) + 0.1 * tf.nn.l2_loss(w("low_k", FEATURES, 7))


def _relu_of_relu(w: Weights, x: Any) -> Any:
    return tf.nn.relu6(tf.nn.leaky_relu(dense(w, "low", x, 7)))


def _gated(w: Weights, x: Any) -> Any:
    return dense(w, "value", x, 5) * tf.nn.sigmoid(dense(w, "gate", x, 5))


def _silu(w: Weights, x: Any) -> Any:
    return dense(w, "top", tf.nn.silu(dense(w, "low", x, 7)), 5, "relu")


FUNCTION = ("function",)
BOTH = ("graph", "function")

_LOOP = "used inside a loop"
NORM = "the fused op takes the kernels and biases of dense layers"
NO_BIAS = "not the bias of a fused dense layer"
OF_LAYER_NORM = "dense layer"  # its gradient is that of an op in a tf.function only
_BATCHED = "batched product"
TIME = (None, 3, FEATURES)
STATIC = (BATCH, 3, FEATURES)
OPEN = (None, None, FEATURES)
HEADS = (("top_k", "low_k"),)
EINSUM_DENSE = (("top/kernel", "low/kernel"),)


def _apart(*kernels: str) -> tuple[tuple[str, ...], ...]:
    """Chains of one layer each."""
    return tuple((kernel,) for kernel in kernels)


def _attention_kernels(name: str) -> tuple[tuple[str, ...], ...]:
    return _apart(
        *(f"{name}/{part}/kernel" for part in ("query", "key", "value", "attention_output"))
    )


_ATTENTION = _attention_kernels("mha")
_ENCODER = (
    *_attention_kernels("a_mha"),
    *_attention_kernels("b_mha"),
    ("a_down/kernel", "a_up/kernel"),
    ("b_down/kernel", "b_up/kernel"),
    ("embed_k",),
)
_NORMS = {
    f"{block}_norm_{number}/{part}": OF_LAYER_NORM
    for block in "ab"
    for number in (1, 2)
    for part in ("gamma", "beta")
}

MODELS = {
    "dropout": Model(_dropout, (("top_k",), ("low_k",)), modes=BOTH),
    "gelu": Model(_gelu, (("top_k",), ("low_k",))),
    "silu": Model(_silu, (("top_k", "low_k"),), modes=BOTH),
    "batch_norm": Model(
        _batch_norm,
        (("top_k",), ("low_k",)),
        {"beta": NO_BIAS, "gamma": NORM},
    ),
    "keras_batch_norm": Model(
        _keras_batch_norm,
        (("top_k",), ("low_k",)),
        {"norm/gamma": NORM, "norm/beta": NO_BIAS},
        modes=FUNCTION,
    ),
    "layer_norm": Model(
        _layer_norm,
        (("top_k",), ("low_k",)),
        {"norm/gamma": NO_BIAS, "norm/beta": NO_BIAS},
    ),
    "conv_stem": Model(
        _conv_stem,
        (("top_k", "low_k"),),
        {"conv": "; the fused op takes the kernels"},
        shape=(None, 4, 4, 1),
    ),
    "embedding": Model(_embedding, (("top_k",),), tables=("table",), modes=BOTH),
    "tied": Model(_tied, (("top_k",), ("low_k",)), {"tied": "more than one place"}),
    "transposed": Model(
        _transposed,
        (("top_k",),),
        {"flipped": "multiplies by its transpose", "flipped_b": NO_BIAS},
    ),
    "shared_layer": Model(
        _shared_layer,
        (("top_k",), ("shared_k",), ("low_k",)),
        modes=BOTH,
    ),
    "shared_bias": Model(_shared_bias, (("top_k",), ("low_k",)), {"both_b": "more than one place"}),
    "residual": Model(
        _residual, (("top_k",), ("middle_2_k", "middle_1_k"), ("low_k",)), modes=BOTH
    ),
    "two_branches": Model(
        _two_branches, (("top_k",), ("left_2_k", "left_1_k"), ("right_k",), ("stem_k",))
    ),
    "sum_of_products": Model(_sum_of_products, (("left",), ("right",)), {"sum_b": NO_BIAS}),
    "two_ivs": Model(_two_ivs, (("a_k",), ("b_k",), ("stem_k",)), modes=BOTH),
    "rank_3": Model(_rank_3, (("top/kernel", "low/kernel"),), shape=(None, 3, FEATURES)),
    "rank_3_static": Model(_rank_3, (("top/kernel", "low/kernel"),), shape=(BATCH, 3, FEATURES)),
    "rank_3_open": Model(
        _rank_3, (("top/kernel", "low/kernel"),), shape=(None, None, FEATURES), modes=BOTH
    ),
    "tensordot": Model(_tensordot, (("top_k", "low_k"),), shape=(None, 3, FEATURES)),
    "flattened": Model(_flattened, (("top_k",), ("low/kernel",)), shape=(None, 3, FEATURES)),
    "batched_product": Model(_batched_product, (("low_k",),), shape=TIME),
    "batched_products": Model(
        _batched_products, (("top_k", "middle/kernel", "low_k"),), shape=TIME, modes=BOTH
    ),
    "batched_products_static": Model(
        _batched_products, (("top_k", "middle/kernel", "low_k"),), shape=STATIC
    ),
    "batched_products_open": Model(
        _batched_products, (("top_k", "middle/kernel", "low_k"),), shape=OPEN, modes=BOTH
    ),
    "batched_products_of_one": Model(
        _batched_products,
        (("top_k", "middle/kernel", "low_k"),),
        shape=(None, 1, 3, FEATURES),
        modes=BOTH,
    ),
    "batched_product_rank_4": Model(_batched_product, (("low_k",),), shape=(None, 2, 3, FEATURES)),
    "tensordot_heads": Model(_tensordot_heads, HEADS, shape=TIME, modes=BOTH),
    "tensordot_heads_open": Model(_tensordot_heads, HEADS, shape=OPEN),
    "einsum_heads": Model(_einsum_heads, HEADS, shape=TIME, modes=BOTH),
    "einsum_heads_static": Model(_einsum_heads, HEADS, shape=STATIC),
    "einsum_heads_open": Model(_einsum_heads, HEADS, shape=OPEN),
    "einsum_dots": Model(_einsum_dots, HEADS, shape=TIME),
    "einsum_dots_open": Model(_einsum_dots, HEADS, shape=OPEN, modes=BOTH),
    "einsum_dense": Model(_einsum_dense, EINSUM_DENSE, shape=TIME, modes=BOTH),
    "einsum_dense_static": Model(_einsum_dense, EINSUM_DENSE, shape=STATIC),
    "einsum_dense_open": Model(_einsum_dense, EINSUM_DENSE, shape=OPEN, modes=BOTH),
    "einsum_dense_no_bias": Model(
        functools.partial(_einsum_dense, bias=False), EINSUM_DENSE, shape=TIME
    ),
    "einsum_dense_dots": Model(_einsum_dense_dots, (("top/kernel",),), shape=OPEN),
    "attention": Model(_attention, _ATTENTION, shape=TIME, modes=BOTH),
    "attention_open": Model(_attention, _ATTENTION, shape=OPEN, modes=BOTH),
    "attention_no_bias": Model(functools.partial(_attention, bias=False), _ATTENTION, shape=STATIC),
    "cross_attention": Model(_cross_attention, _ATTENTION, shape=TIME),
    "grouped_attention": Model(_grouped_attention, _attention_kernels("gqa"), shape=TIME),
    "grouped_attention_open": Model(_grouped_attention, _attention_kernels("gqa"), shape=OPEN),
    "encoder": Model(_encoder, _ENCODER, _NORMS, shape=TIME, modes=BOTH),
    "encoder_open": Model(_encoder, _ENCODER, _NORMS, shape=OPEN, modes=FUNCTION),
    "einsum_transposed": Model(
        _einsum_transposed,
        (),
        {"flipped": "multiplies by its transpose", "flipped_b": NO_BIAS},
        shape=TIME,
    ),
    "einsum_inputs_inside": Model(_einsum_inputs_inside, (), {"inside": _BATCHED}, shape=TIME),
    "einsum_for_each_head": Model(_einsum_for_each_head, (), {"each": _BATCHED}, shape=STATIC),
    "einsum_for_each_row": Model(_einsum_for_each_row, (), {"each": _BATCHED}, shape=STATIC),
    "einsum_rows_swapped": Model(_einsum_rows_swapped, (), {"swapped": _BATCHED}, shape=TIME),
    "einsum_over_time": Model(_einsum_over_time, (), {"time": _BATCHED}, shape=TIME),
    "batch_of_one": Model(_batch_of_one, (), {"one": _BATCHED}, shape=TIME),
    "kernel_first": Model(_kernel_first, (), {"first": _BATCHED}, shape=TIME),
    "kernel_first_transposed": Model(_kernel_first_transposed, (), {"first": _BATCHED}, shape=TIME),
    "batched_by_transpose": Model(
        _batched_by_transpose, (), {"flipped": "multiplies by its transpose"}, shape=TIME
    ),
    "reshaped_kernel": Model(
        _reshaped_kernel, (), {"reshaped": "is not that of a layer's inputs"}, shape=TIME
    ),
    "wide_bias": Model(_wide_bias, (("k",),), {"wide": NO_BIAS}, shape=TIME),
    "lstm": Model(
        _lstm,
        (("top_k",),),
        {
            "lstm/lstm_cell/kernel": _LOOP,
            "lstm/lstm_cell/recurrent_kernel": _LOOP,
            "lstm/lstm_cell/bias": _LOOP,
        },
        shape=(None, 3, FEATURES),
        modes=FUNCTION,
    ),
    "loop": Model(_loop, (("top_k",), ("low_k",)), {"looped": _LOOP}, modes=BOTH),
    "branch": Model(
        _branch, (("top_k",), ("low_k",)), {"branched": "conditional branch"}, modes=BOTH
    ),
    "nested_function": Model(
        _nested_function, (("top_k",),), {"inner": "nested tf.function"}, modes=BOTH
    ),
    "frozen_middle": Model(_frozen_middle, (("top_k",), ("low_k",))),
    "frozen_bias": Model(_frozen_bias, (("top_k", "low_k"),)),
    "read_again_above": Model(_read_again_above, (("top_k", "low_k"),)),
    "read_again_below": Model(_read_again_below, (("top_k",), ("low_k",)), modes=BOTH),
    "row_bias": Model(_row_bias, (("top_k", "low_k"),)),
    "row_bias_below": Model(_row_bias_below, (("top_k", "low_k"),)),
    "scaled": Model(_scaled, (("top_k",),), {"scale": NO_BIAS, "gain": "fused op takes"}),
    "two_biases": Model(_two_biases, (("top_k",),), {"extra_b": NO_BIAS}),
    "einsum": Model(_einsum, (("top_k",),), {"heads": "batched product"}),
    "loss": Model(_loss, (("logits_k", "low_k"),)),
    "regularised_loss": Model(
        _regularised_loss,
        (("logits_k",),),
        {"low_k": "more than one place", "low_b": NO_BIAS},
    ),
    "relu_of_relu": Model(_relu_of_relu, (("low_k",),)),
    "gated": Model(_gated, (("value_k",), ("gate_k",))),
}

"""JAX: the whole step in one jit, weights and state donated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import rules
from benchmarks.peers.cases import (
    ADAGRAD,
    ADAMW,
    MOMENTUM,
    SGD,
    SLOTS,
    Convolutions,
    Dense,
    Embedding,
    Part,
    Transformer,
)
from benchmarks.peers.peer import Peer


class Jax(Peer):
    """Weights in Keras' layout."""

    def __init__(self, part: Part, rule: str) -> None:
        self._forward = FORWARD[type(part)]
        self._part = part
        self._rule = rule
        self._batches = [
            (jnp.asarray(x), jnp.asarray(seed))
            for x, seed in zip(part.inputs(), part.seeds(), strict=True)
        ]
        self._weights: list[Any] = []
        self._slots: list[list[Any]] = []
        self._t = jnp.zeros((), jnp.float32)
        adds_rows = rule == SGD and isinstance(part, Embedding)
        self._jitted = jax.jit(
            self._step_with_rows if adds_rows else self._step, donate_argnums=(0, 1, 2)
        )

    def step(self, batch: int) -> None:
        self._weights, self._slots, self._t = self._jitted(
            self._weights, self._slots, self._t, *self._batches[batch]
        )
        jax.block_until_ready(self._weights)

    def weights(self) -> list[np.ndarray]:
        return [np.array(w) for w in self._weights]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self._weights = [jnp.array(w) for w in weights]
        if not self._slots:
            start = rules.INITIAL_ACCUMULATOR if self._rule == ADAGRAD else 0.0
            slots = range(SLOTS[self._rule])
            self._slots = [[jnp.full(w.shape, start) for _ in slots] for w in weights]

    def _step(self, weights: Any, slots: Any, t: Any, x: Any, seed: Any) -> Any:
        _, pull_back = jax.vjp(lambda w: self._forward(self._part, w, x), weights)
        (gradients,) = pull_back(seed)
        t = t + 1
        update = [self._update(*one, t) for one in zip(weights, slots, gradients, strict=True)]
        return [w for w, _ in update], [s for _, s in update], t

    def _step_with_rows(self, weights: Any, slots: Any, t: Any, x: Any, seed: Any) -> Any:
        """SGD adds to the rows looked up, so that the table has no dense gradient."""
        table, *others = weights
        _, pull_back = jax.vjp(_on_rows, table[x], others)
        rows, gradients = pull_back(seed)
        table = table.at[x].add(-rules.RATE[SGD] * rows)
        updated = [w - rules.RATE[SGD] * g for w, g in zip(others, gradients, strict=True)]
        return [table, *updated], slots, t

    def _update(self, w: Any, slots: list[Any], g: Any, t: Any) -> tuple[Any, list[Any]]:
        rate = rules.RATE[self._rule]
        if self._rule == SGD:
            return w - rate * g, []
        if self._rule == MOMENTUM:
            m = rules.MOMENTUM_FACTOR * slots[0] + g
            return w - rate * m, [m]
        if self._rule == ADAGRAD:
            a = slots[0] + g * g
            return w - rate * g / (jnp.sqrt(a) + rules.EPSILON), [a]
        if self._rule == ADAMW:
            w = w - rate * rules.WEIGHT_DECAY * w
        m = rules.BETA1 * slots[0] + (1 - rules.BETA1) * g
        v = rules.BETA2 * slots[1] + (1 - rules.BETA2) * g * g
        rate = rate * jnp.sqrt(1 - rules.BETA2**t) / (1 - rules.BETA1**t)
        return w - rate * m / (jnp.sqrt(v) + rules.EPSILON), [m, v]


def _dense(part: Dense, w: list[Any], x: Any) -> Any:
    for kernel, bias in zip(w[::2], w[1::2], strict=True):
        x = jax.nn.relu(x @ kernel + bias)
    return x


def _embedding(part: Embedding, w: list[Any], x: Any) -> Any:
    return _on_rows(w[0][x], w[1:])


def _on_rows(rows: Any, w: list[Any]) -> Any:
    return jax.nn.relu(rows.reshape(rows.shape[0], -1) @ w[0] + w[1])


def _transformer(part: Transformer, w: list[Any], x: Any) -> Any:
    query, key, value, output, gamma1, beta1, up, up_bias, down, down_bias, gamma2, beta2 = w
    q, k, v = (jnp.einsum("btd,dhk->bthk", x, kernel) for kernel in (query, key, value))
    attended = jax.nn.dot_product_attention(q, k, v)
    h = _normalized(x + jnp.einsum("bthk,hkd->btd", attended, output), gamma1, beta1)
    mlp = jax.nn.relu(h @ up + up_bias) @ down + down_bias
    return _normalized(h + mlp, gamma2, beta2)


def _normalized(x: Any, gamma: Any, beta: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    variance = x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-3) * gamma + beta


def _convolutions(part: Convolutions, w: list[Any], x: Any) -> Any:
    h = jax.nn.relu(_convolved(x, w[0]) + w[1])
    pool = (1, 2, 2, 1)
    h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, pool, pool, "VALID")
    h = jax.nn.relu(_convolved(h, w[2]) + w[3])
    return _on_rows(h, w[4:])


def _convolved(x: Any, kernel: Any) -> Any:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


FORWARD: dict[type, Callable[[Any, list[Any], Any], Any]] = {
    Dense: _dense,
    Embedding: _embedding,
    Transformer: _transformer,
    Convolutions: _convolutions,
}

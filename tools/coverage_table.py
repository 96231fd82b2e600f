"""Writes docs/coverage.md, what is fused and what is not, from plans: `make coverage`.

Nothing is said here that a plan did not say: each line is planned on the CPU, in a tf.function with
a Keras optimizer or in a TF1 graph with one of TF1's, and read from the plan.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

import splitop

layers, optimizers, tf1 = keras.layers, keras.optimizers, tf.compat.v1

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "coverage.md"
BATCH, LENGTH, WIDTH, ROWS, SIDE = 4, 3, 6, 20, 8
VECTOR, SEQUENCE, IMAGE, STEPS, IDS = (
    (BATCH, WIDTH),
    (BATCH, LENGTH, WIDTH),
    (BATCH, SIDE, SIDE, 2),
    (BATCH, SIDE, 2),
    (BATCH, LENGTH),
)
RATE = 0.01

INTRODUCTION = """# Coverage

Written by `make coverage` from what `splitop.plan` says on a CPU, and checked by the tests. On GPUs
see [gpu.md](gpu.md); the figures of models that hold these layers are those of `make bench`.

- **fused**: the backward pass and the update, in one op.
- **fused update**: TensorFlow computes the gradient; one op updates all such variables.
- **fallback**: TensorFlow computes the gradient and the optimizer updates.
"""


@dataclasses.dataclass(frozen=True)
class Line:
    """A layer, or what computes like one, and its input.

    Attributes:
        make: Makes a Keras layer or model.
        shape: Of the input.
        sparse: Which rows of a table are updated.
    """

    make: Callable[[], Any]
    shape: tuple[int, ...] = VECTOR
    sparse: str = "exact"


class Computed(layers.Layer):
    """Plain TensorFlow: the intermediate vector of the weights and the input."""

    def __init__(self, compute: Callable[..., Any], **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self._compute = compute
        self._weights_by_name = {
            name: self.add_weight(name=name, shape=shape) for name, shape in shapes.items()
        }

    def call(self, x: Any) -> Any:
        return self._compute(x, **{n: w.value for n, w in self._weights_by_name.items()})


def _twice(layer: Any) -> Any:
    return keras.Sequential([keras.Input((WIDTH,)), layer, layer])


def _bag(ids: Any, table: Any, combiner: str = "mean") -> Any:
    sparse = tf.sparse.from_dense(tf.cast(ids, tf.int64))
    return tf.nn.embedding_lookup_sparse(table, sparse, None, combiner=combiner)


def _attention(make: Callable[[], Any]) -> Any:
    x = keras.Input((LENGTH, WIDTH))
    return keras.Model(x, make()(x, x))


def _average() -> Any:
    return keras.Sequential([layers.Embedding(ROWS, WIDTH), layers.GlobalAveragePooling1D()])


def _tied_embedding() -> Any:
    ids, embedding = keras.Input((LENGTH,), dtype="int32"), layers.ReversibleEmbedding(ROWS, WIDTH)
    return keras.Model(ids, embedding(embedding(ids), reverse=True))


ACTIVATIONS = (
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "tanh",
    "sigmoid",
    "softplus",
    "silu",
    "gelu",
    "softsign",
    "softmax",
    "hard_sigmoid",
    "exponential",
    "mish",
)
TABLE = {"table": (ROWS, WIDTH)}
LAYERS: dict[str, Line] = {
    **{f"Dense, {name}": Line(lambda name=name: layers.Dense(5, name)) for name in ACTIVATIONS},
    "Dense without bias": Line(lambda: layers.Dense(5, use_bias=False)),
    "Dense on rank 3": Line(lambda: layers.Dense(5, "relu"), SEQUENCE),
    "Dense, applied twice": Line(lambda: _twice(layers.Dense(WIDTH, "tanh"))),
    "Dense with PReLU": Line(
        lambda: keras.Sequential([keras.Input((WIDTH,)), layers.Dense(5), layers.PReLU()])
    ),
    "EinsumDense, abc,cd->abd": Line(
        lambda: layers.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d"), SEQUENCE
    ),
    "EinsumDense, rank-3 kernel, abc,cde->abde": Line(
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), SEQUENCE
    ),
    "EinsumDense, transposed kernel, abc,dc->abd": Line(
        lambda: layers.EinsumDense("abc,dc->abd", (None, 5)), SEQUENCE
    ),
    "EinsumDense, over the sequence, abc,bd->adc": Line(
        lambda: layers.EinsumDense("abc,bd->adc", (5, WIDTH)), SEQUENCE
    ),
    "MultiHeadAttention": Line(
        lambda: _attention(lambda: layers.MultiHeadAttention(2, 3)), SEQUENCE
    ),
    "GroupQueryAttention": Line(
        lambda: _attention(lambda: layers.GroupQueryAttention(3, 4, 2)), SEQUENCE
    ),
    "tf.matmul": Line(lambda: Computed(lambda x, w: tf.matmul(x, w), w=(WIDTH, 5))),
    "tf.matmul, transpose_b=True": Line(
        lambda: Computed(lambda x, w: tf.matmul(x, w, transpose_b=True), w=(5, WIDTH))
    ),
    "tf.matmul, rank-3 kernel": Line(
        lambda: Computed(lambda x, w: tf.matmul(x, w), w=(BATCH, WIDTH, 5)), SEQUENCE
    ),
    "tf.tensordot, rank-3 kernel": Line(
        lambda: Computed(lambda x, w: tf.tensordot(x, w, 1), w=(WIDTH, 2, 3)), SEQUENCE
    ),
    "Embedding": Line(lambda: layers.Embedding(ROWS, WIDTH), IDS),
    "Embedding, average of a bag": Line(_average, IDS),
    'Embedding, sparse="lazy"': Line(lambda: layers.Embedding(ROWS, WIDTH), IDS, "lazy"),
    "ReversibleEmbedding, both ways (tied)": Line(_tied_embedding, IDS),
    "tf.gather": Line(lambda: Computed(lambda x, table: tf.gather(table, x), **TABLE), IDS),
    **{
        f"tf.nn.embedding_lookup_sparse, {combiner}": Line(
            lambda combiner=combiner: Computed(lambda x, table: _bag(x, table, combiner), **TABLE),
            IDS,
        )
        for combiner in ("sum", "mean", "sqrtn")
    },
    "Conv1D": Line(lambda: layers.Conv1D(3, 3), STEPS),
    "Conv2D": Line(lambda: layers.Conv2D(3, 3), IMAGE),
    "DepthwiseConv2D": Line(lambda: layers.DepthwiseConv2D(3), IMAGE),
    "SeparableConv2D": Line(lambda: layers.SeparableConv2D(3, 3), IMAGE),
    "Conv2DTranspose": Line(lambda: layers.Conv2DTranspose(3, 3), IMAGE),
    "BatchNormalization": Line(layers.BatchNormalization),
    "LayerNormalization": Line(layers.LayerNormalization),
    "GroupNormalization": Line(lambda: layers.GroupNormalization(2), IMAGE),
    "PReLU": Line(layers.PReLU),
    "LSTM": Line(lambda: layers.LSTM(5), SEQUENCE),
    "GRU": Line(lambda: layers.GRU(5), SEQUENCE),
    "SimpleRNN": Line(lambda: layers.SimpleRNN(5), SEQUENCE),
    "Bidirectional LSTM": Line(lambda: layers.Bidirectional(layers.LSTM(5)), SEQUENCE),
}


class OwnSGD(optimizers.SGD):
    """A subclass, as a user writes one."""


def _excluding() -> Any:
    optimizer = optimizers.AdamW(RATE)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


KERAS_OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "SGD": optimizers.SGD,
    "SGD, momentum": lambda: optimizers.SGD(RATE, momentum=0.9),
    "SGD, Nesterov": lambda: optimizers.SGD(RATE, momentum=0.9, nesterov=True),
    "Adam": optimizers.Adam,
    "Adam, amsgrad": lambda: optimizers.Adam(RATE, amsgrad=True),
    "AdamW": optimizers.AdamW,
    "Adagrad": optimizers.Adagrad,
    "RMSprop": optimizers.RMSprop,
    "RMSprop, momentum": lambda: optimizers.RMSprop(RATE, momentum=0.9),
    "RMSprop, centered": lambda: optimizers.RMSprop(RATE, centered=True),
    "RMSprop, centered, momentum": lambda: optimizers.RMSprop(RATE, momentum=0.9, centered=True),
    "Adadelta": optimizers.Adadelta,
    "Adamax": optimizers.Adamax,
    "Nadam": optimizers.Nadam,
    "Ftrl": optimizers.Ftrl,
    "Lion": optimizers.Lion,
    "splitop.keras.RowwiseAdagrad": splitop.keras.RowwiseAdagrad,
    "Lamb": optimizers.Lamb,
    "Adafactor": optimizers.Adafactor,
    "Muon": optimizers.Muon,
    "a subclass of SGD": OwnSGD,
}
TF1_OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "GradientDescentOptimizer": lambda: tf1.train.GradientDescentOptimizer(RATE),
    "MomentumOptimizer": lambda: tf1.train.MomentumOptimizer(RATE, 0.9),
    "MomentumOptimizer, Nesterov": lambda: tf1.train.MomentumOptimizer(
        RATE, 0.9, use_nesterov=True
    ),
    "AdamOptimizer": tf1.train.AdamOptimizer,
    "AdagradOptimizer": lambda: tf1.train.AdagradOptimizer(RATE),
    "RMSPropOptimizer": lambda: tf1.train.RMSPropOptimizer(RATE, momentum=0.9),
    "RMSPropOptimizer, centered": lambda: tf1.train.RMSPropOptimizer(RATE, centered=True),
    "AdadeltaOptimizer": tf1.train.AdadeltaOptimizer,
    "FtrlOptimizer": lambda: tf1.train.FtrlOptimizer(RATE),
    "AdagradDAOptimizer": lambda: tf1.train.AdagradDAOptimizer(RATE, tf.constant(0, tf.int64)),
    "ProximalAdagradOptimizer": lambda: tf1.train.ProximalAdagradOptimizer(RATE),
}


@dataclasses.dataclass(frozen=True)
class Option:
    """One thing that is not the default.

    Attributes:
        make: Makes the optimizer.
        policy: The dtype policy of the layers.
        constraint: Of all variables.
        jit: Whether XLA compiles the step.
        backend: That of `splitop.plan`.
        strategy: Makes the tf.distribute strategy that holds the variables.
    """

    make: Callable[[], Any] = optimizers.Adam
    policy: str = "float32"
    constraint: Any = None
    jit: bool = False
    backend: str | None = None
    strategy: Callable[[], Any] | None = None


def _mirrored(replicas: int) -> Any:
    return tf.distribute.MirroredStrategy([f"/CPU:{index}" for index in range(replicas)])


def _adam(**options: Any) -> Option:
    return Option(lambda: optimizers.Adam(RATE, **options))


OPTIONS: dict[str, Option] = {
    "none": Option(),
    "weight_decay": _adam(weight_decay=0.01),
    "exclude_from_weight_decay": Option(_excluding),
    "a learning rate schedule": Option(
        lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(RATE, 10, 0.9))
    ),
    "clipnorm": _adam(clipnorm=1.0),
    "clipvalue": _adam(clipvalue=1.0),
    "global_clipnorm": _adam(global_clipnorm=1.0),
    "use_ema": _adam(use_ema=True),
    "use_ema, ema_overwrite_frequency": _adam(use_ema=True, ema_overwrite_frequency=2),
    "gradient_accumulation_steps": _adam(gradient_accumulation_steps=2),
    "loss_scale_factor": _adam(loss_scale_factor=128.0),
    "LossScaleOptimizer": Option(lambda: optimizers.LossScaleOptimizer(optimizers.Adam())),
    "a constraint on the variable": Option(constraint=keras.constraints.NonNeg),
    "mixed_bfloat16": Option(policy="mixed_bfloat16"),
    "mixed_float16": Option(policy="mixed_float16"),
    "float64": Option(policy="float64"),
    "bfloat16": Option(policy="bfloat16"),
    "jit_compile=True": Option(jit=True),
    'backend="reference"': Option(backend="reference"),
    "MirroredStrategy, one replica": Option(strategy=lambda: _mirrored(1)),
    "MirroredStrategy, two replicas": Option(strategy=lambda: _mirrored(2)),
}
KINDS = {"dense": "dense layer", "norm": "other variable", "table": "table, repeated ids"}


def three_kinds(option: Option) -> Any:
    """A table, a normalisation and a dense layer."""

    def constraint() -> Any:
        return option.constraint() if option.constraint else None

    return keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            layers.Embedding(ROWS, WIDTH, name="table", embeddings_constraint=constraint()),
            layers.LayerNormalization(
                name="norm", beta_constraint=constraint(), gamma_constraint=constraint()
            ),
            layers.Dense(
                5, name="dense", kernel_constraint=constraint(), bias_constraint=constraint()
            ),
        ]
    )


@contextlib.contextmanager
def _policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _spec(shape: tuple[int, ...]) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.int32 if shape == IDS else tf.float32)


def plan_in_function(
    make_model: Callable[[], Any],
    shape: tuple[int, ...],
    option: Option,
    *,
    run: bool = False,
    **arguments: Any,
) -> splitop.Plan:
    """The plan of a tf.function's step with a Keras optimizer; `run`: takes the step, too."""
    plans = []
    spec = _spec(shape)
    strategy = option.strategy() if option.strategy else tf.distribute.get_strategy()
    with strategy.scope(), tf.device(None if option.strategy else "/CPU:0"), _policy(option.policy):
        model, optimizer = make_model(), option.make()
        model(tf.zeros(spec.shape, spec.dtype))
        variables = model.trainable_variables
        optimizer.build(variables)

        def in_replica(x: Any) -> None:
            iv = model(x, training=True) if isinstance(model, keras.Model) else model(x)
            plan = splitop.plan(optimizer, iv, variables, backend=option.backend, **arguments)
            plans.append(plan)
            if run:
                plan.apply()

        @tf.function(autograph=False, jit_compile=option.jit, input_signature=[spec])
        def step(x: Any) -> None:
            strategy.run(in_replica, (x,))

        if run:
            step(tf.zeros(spec.shape, spec.dtype))
        else:
            step.get_concrete_function()
    return plans[-1]


def plan_in_graph(make_optimizer: Callable[[], Any]) -> splitop.Plan:
    """The plan of the three kinds in a TF1 graph."""
    with tf.Graph().as_default(), tf.device("/CPU:0"):
        model = three_kinds(Option())
        iv = model(tf1.placeholder(tf.int32, IDS))
        return splitop.plan(make_optimizer(), iv, model.trainable_variables)


def outcomes(plan: splitop.Plan) -> dict[str, str]:
    """What happens to each variable of a plan, in its order."""
    found = {name: f"fallback: {why}" for name, why in plan.declined.items()}
    found |= {name: f"fused update: {why}" for name, why in plan.updated.items()}
    found |= {table.table: f"fused: {table}" for table in plan.tables}
    for chain in plan.chains:
        for layer in chain.layers:
            for name in filter(None, (layer.kernel, layer.bias)):
                found[name] = "fused"
    names = [item.name for item in plan._emission.call.variables]
    return {name: found[name] for name in names}


class Notes:
    """Reasons, numbered in the order of their first use."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def refer(self, outcome: str) -> str:
        """The outcome with a number for its reason."""
        path, _, why = outcome.partition(": ")
        if path == "fused" or not why:
            return outcome
        return f"{path} [{self._numbers.setdefault(why, len(self._numbers) + 1)}]"

    def lines(self) -> list[str]:
        return [f"{number}. {why}" for why, number in self._numbers.items()]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


def _grouped(plan: splitop.Plan) -> str:
    """The outcomes of a layer's variables; those that share one are named together."""
    together: dict[str, list[str]] = {}
    for name, outcome in outcomes(plan).items():
        together.setdefault(outcome, []).append(_short(name))
    if len(together) == 1:
        return next(iter(together))
    parts = [f"{', '.join(dict.fromkeys(names))}: {how}" for how, names in together.items()]
    return "<br>".join(parts)


def _short(name: str) -> str:
    return name.removesuffix(":0").rpartition("/")[2]


def _activations(plan: splitop.Plan) -> str:
    found = [layer.activation for chain in plan.chains for layer in chain.layers]
    return ", ".join(dict.fromkeys(found)) or "–"


def _inside_xla(line: Line) -> str:
    """What becomes of a layer if XLA compiles the step, which is taken once."""
    try:
        plan = plan_in_function(
            line.make, line.shape, Option(jit=True), run=True, sparse=line.sparse
        )
    except tf.errors.InvalidArgumentError:
        return _without_splitop(line)
    return _grouped(plan)


def _without_splitop(line: Line) -> str:
    """What XLA does not compile has to be TensorFlow's."""
    try:
        plan_in_function(line.make, line.shape, Option(jit=True, backend="reference"), run=True)
    except tf.errors.InvalidArgumentError:
        return "XLA does not compile TensorFlow's ops"
    raise AssertionError(f"XLA does not compile a step of splitop's. Received: {line}.")


def _layer_rows() -> list[list[str]]:
    rows = []
    for name, line in LAYERS.items():
        plan = plan_in_function(line.make, line.shape, Option(), sparse=line.sparse)
        outside, inside = _grouped(plan), _inside_xla(line)
        same = "the same" if inside == outside else inside
        rows.append([name, outside, _activations(plan), same])
    return rows


def _kinds_row(name: str, plan: splitop.Plan, notes: Notes) -> list[str]:
    """One cell a kind, with all that happens to its variables."""
    row, planned = [name], outcomes(plan)
    for kind in KINDS:
        of_kind = [how for variable, how in planned.items() if f"/{kind}/" in f"/{variable}"]
        row.append("; ".join(dict.fromkeys(map(notes.refer, of_kind))))
    return row


def _option_row(name: str, option: Option, notes: Notes) -> list[str]:
    return _kinds_row(name, plan_in_function(lambda: three_kinds(option), IDS, option), notes)


def page() -> str:
    """The whole page; in a process that has not used TensorFlow yet, as it needs two CPUs."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
    tf.config.set_logical_device_configuration(cpu, two)
    notes = Notes()
    keras_rows = [_option_row(name, Option(make), notes) for name, make in KERAS_OPTIMIZERS.items()]
    tf1_rows = [
        _kinds_row(name, plan_in_graph(make), notes) for name, make in TF1_OPTIMIZERS.items()
    ]
    option_rows = [_option_row(name, option, notes) for name, option in OPTIONS.items()]
    lines = [
        INTRODUCTION,
        "## Layers",
        "With Keras' Adam. In the op: the activations whose gradient the op computes; that of",
        "another one is TensorFlow's. The last column: of a step that XLA has compiled and run.",
        "",
        *_table(["layer", "variables", "in the op", "with jit_compile=True"], _layer_rows()),
        "",
        "## Keras optimizers",
        *_table(["optimizer", *KINDS.values()], keras_rows),
        "",
        "## TF1 optimizers",
        *_table(["optimizer", *KINDS.values()], tf1_rows),
        "",
        "## Options",
        "Of Keras' Adam, but for the optimizer that is named.",
        "",
        *_table(["option", *KINDS.values()], option_rows),
        "",
        "## Reasons",
        *notes.lines(),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    PAGE.write_text(page())
    print(f"Written: {PAGE}")


if __name__ == "__main__":
    main()

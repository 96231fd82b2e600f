"""`splitop.keras.SplitModel`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src import workers
from splitop._src.errors import SplitError
from splitop._src.names import describe
from splitop._src.replaced import is_untouched, with_own_ops
from splitop._src.replicas import replicas
from splitop._src.split_model import cut as cutting
from splitop._src.split_model import on_replicas, step, stored_seeds
from splitop._src.split_model.compiling import Plans, Training, jit_choice, new_frequency

# How the names of what Keras does not save itself start.
_FURTHER = "splitop_"


@keras.saving.register_keras_serializable(package="splitop")
class SplitModel(keras.Model):
    """A Keras model of two parts, each with its own optimizer.

        x -> second_part -> IV -> first_part -> y

    In `fit` and `train_on_batch` both parts take their steps from one forward pass: the first
    part's gradients and dL/dIV come from the loss, the second part's from dL/dIV, all from before
    either part moves. So a batch trains as the model in one piece would be trained. The backward
    pass and the update are fused where they can be; `print(model.plans)` says where, after the
    first batch.

    `evaluate`, `predict`, `save`, callbacks and data are Keras' own. Logs have one entry more,
    "seed_norm": the l2 norm of dL/dIV, as a mean over the batches of the epoch.

    Args:
        second_part: A keras.Model from the input to IV: a tensor, or a list or dict of them.
        first_part: A keras.Model from IV to the predictions.
        name: Name of the model.

    Raises:
        SplitError: A part is no Keras model.
        CutError: The parts share variables, or IV does not fit the first part.
    """

    def __init__(
        self, second_part: Any, first_part: Any, *, name: str | None = None, **kwargs: Any
    ) -> None:
        cutting.check_parts(second_part, first_part)
        # The parts cast their inputs themselves.
        super().__init__(name=name, **{"autocast": False, **kwargs})
        self.second_part = second_part
        self.first_part = first_part
        self.second_optimizer: Any = None
        self._training: Training | None = None
        self._step_losses: list[Any] | None = None
        if second_part.built and first_part.built:
            self.built = True

    @classmethod
    def cut(cls, model: Any, layer_name: str | Sequence[str], **kwargs: Any) -> SplitModel:
        """Cuts a model behind one layer or several: their outputs are IV.

        The parts use the layers of `model` themselves, so that training one trains the other.

        Args:
            model: A functional or sequential keras.Model.
            layer_name: Name of a layer, or a list of names if several outputs cross the cut, in
                the order that IV is to have. Of a layer that is called several times, all outputs
                do. An input that the first part needs, too, is named like a layer. Keras' masks of
                these outputs become part of IV, behind them.
            **kwargs: What SplitModel takes, such as `name`.

        Raises:
            CutError: No such layer, an output that goes round the cut, a layer with weights that
                is used on both sides, or nothing left for a part. The message says what to name.
        """
        return cls(*cutting.cut(model, layer_name), **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The predictions."""
        return self.first_part(self.second_part(inputs))

    def compile(
        self,
        first_optimizer: Any = None,
        second_optimizer: Any = None,
        loss: Any = None,
        *,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        first_steps: int = 1,
        second_steps: int = 1,
        micro_batch_size: int | None = None,
        backend: str | None = None,
        sparse: str = "exact",
        skip_nonfinite: bool = False,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
        optimizer: Any = None,
    ) -> None:
        """Configures training; as in Keras, changes of `trainable` need another `compile`.

        `model.optimizer` is the first part's, `model.second_optimizer` the second part's. A
        frozen part needs none; if the first part has none, `model.optimizer` is the second one.

        Args:
            first_optimizer: A keras.optimizers.Optimizer, or its name.
            second_optimizer: The same for the second part; another object.
            loss: As in Keras, like `loss_weights`, `metrics`, `weighted_metrics` and
                `steps_per_execution`.
            loss_weights: See `loss`.
            metrics: See `loss`.
            weighted_metrics: See `loss`.
            first_steps: How many steps the first part takes while the second one takes
                `second_steps`, at most one a batch: (1, 5) trains the first part in every fifth
                batch, the second part in each. A part that does not train in a batch stays as it
                is: its optimizer counts, and decays, in its own steps only.
            second_steps: See `first_steps`.
            micro_batch_size: Rows of the second part's micro-batches, whose activations alone are
                kept: see `splitop.MicroBatches`. The loss and the update are those of the whole
                batch; losses that a layer of the second part adds are taken for means over the
                rows. Only the update is fused then. None: the batch in one piece.
            backend: "auto", "fused" or "reference": see `splitop.plan`.
            sparse: "exact" or "lazy": see `splitop.plan`.
            skip_nonfinite: Whether a part's step with a NaN or Inf in its gradients is left out.
            run_eagerly: Whether what is around the training step runs eagerly, as `evaluate` and
                `predict` do; the step itself is always a graph.
            steps_per_execution: See `loss`.
            jit_compile: Whether XLA compiles the model: True, False, or "auto", which is Keras' own
                choice if there are GPUs that the fused ops run on inside XLA, and else False:
                without XLA these are faster. With True the reference path trains on GPUs, unless
                SPLITOP_XLA_GPU=1 is set (docs/guide.md).
            auto_scale_loss: Whether the optimizer of a part whose policy is mixed_float16 gets a
                LossScaleOptimizer around it.
            optimizer: Not for a SplitModel.

        Raises:
            SplitError: An argument that does not fit; one optimizer for both parts; none for a
                part that has trainable variables.
        """
        if optimizer is not None:
            raise SplitError(
                "a SplitModel has two optimizers: pass first_optimizer and second_optimizer. "
                f"Received: optimizer={describe(optimizer)}."
            )
        config = {k: v for k, v in locals().items() if k not in ("self", "optimizer", "__class__")}
        on_replicas.check_strategy()
        on_replicas.check_workers(self.distribute_strategy, steps_per_execution)
        frequency = new_frequency(config)
        training = Training(config, self.first_part, self.second_part)
        super().compile(
            optimizer=training.first_optimizer or training.second_optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_choice(jit_compile),
            auto_scale_loss=False,
        )
        self.second_optimizer = training.second_optimizer
        self._training, self._frequency = training, frequency
        self._eager_step = tf.function(self._graph_step, autograph=False, reduce_retracing=True)
        stored_seeds.reset(self)
        step.build_optimizers(self)

    @property
    def first_optimizer(self) -> Any:
        """The first part's optimizer; None: it has none."""
        return None if self._training is None else self._training.first_optimizer

    @property
    def plans(self) -> Plans | None:
        """What trains each part's variables; None before the first batch."""
        return None if self._training is None else self._training.plans

    @property
    def path(self) -> str:
        """Which path trains each part, in a line."""
        return (self.plans or Plans()).path()

    @property
    def output_names(self) -> list[str]:
        """The names of the first part's outputs, by which losses and metrics may be given."""
        return self.first_part.output_names

    @property
    def losses(self) -> list[Any]:
        """The losses that both parts add themselves, those of regularisers among them."""
        return super().losses if self._step_losses is None else self._step_losses

    def train_step(self, data: Any) -> dict[str, Any]:
        """One batch: forward pass, both parts' steps, metrics."""
        self._compiled()
        on_replicas.check_graph()
        is_last = self._train_step_is_all()
        # With run_eagerly there is no graph yet.
        logs = self._eager_step(data) if tf.executing_eagerly() else self._graph_step(data)
        return on_replicas.logs_for_keras(with_own_ops(logs) if is_last else logs)

    def _train_step_is_all(self) -> bool:
        """Whether Keras calls `train_step` itself, in a function that does nothing else."""
        replaced = type(self).train_step is not SplitModel.train_step or "train_step" in vars(self)
        return not replaced and replicas() is None and is_untouched()

    def test_step(self, data: Any) -> dict[str, Any]:
        """One batch of `evaluate`."""
        return on_replicas.logs_for_keras(super().test_step(data))

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        if iterator is not None and workers.are_several(self.distribute_strategy):
            iterator, data_batch = None, on_replicas.own_batch(self.distribute_strategy, iterator)
        super()._maybe_symbolic_build(iterator, data_batch)

    def _graph_step(self, data: Any) -> dict[str, Any]:
        step.check_context(self)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        step.build(self, x)
        return self._frequency.run(lambda *which: step.train(self, x, y, sample_weight, *which))

    @contextlib.contextmanager
    def _with_losses(self, losses: list[Any]) -> Iterator[None]:
        """Has `losses` be these: each access would make new tensors of the regularisers'."""
        self._step_losses = losses
        try:
            yield
        finally:
            self._step_losses = None

    def _compiled(self) -> Training:
        if self._training is None:
            raise SplitError(
                "compile the SplitModel before it trains. Received: a model that is not compiled."
            )
        return self._training

    def reset_metrics(self) -> None:
        """Starts all means anew, that of "seed_norm", too."""
        super().reset_metrics()
        if self._training is not None:
            self._training.seed_norm.reset_state()

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Trains the model: `keras.Model.fit`.

        Raises:
            WorkerError: Under a MultiWorkerMirroredStrategy another worker is lost.
        """
        with self._averages_of_both_parts(), workers.loss_is_named(self.distribute_strategy):
            return super().fit(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Loss and metrics: `keras.Model.evaluate`.

        Raises:
            WorkerError: Under a MultiWorkerMirroredStrategy another worker is lost.
        """
        with workers.loss_is_named(self.distribute_strategy):
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """The predictions of all batches: `keras.Model.predict`.

        Raises:
            WorkerError: Under a MultiWorkerMirroredStrategy another worker is lost.
        """
        with workers.loss_is_named(self.distribute_strategy):
            return super().predict(*args, **kwargs)

    @contextlib.contextmanager
    def _averages_of_both_parts(self) -> Iterator[None]:
        """Keras' `fit` ends with the averages of `model.optimizer` (use_ema) as the weights.

        It would hand the weights of both parts to the first part's optimizer.
        """
        finalizers = [
            (optimizer.finalize_variable_values, part)
            for optimizer, part in step.parts(self)
            if part.trainable_variables
        ]

        def finalize(_: Any) -> None:
            for finalize_part, part in finalizers:
                finalize_part(part.trainable_variables)

        optimizer = getattr(self, "optimizer", None)
        if optimizer is None:
            yield
            return
        optimizer.finalize_variable_values = finalize
        try:
            yield
        finally:
            del optimizer.finalize_variable_values

    def seed_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """dL/dIV of a batch, in training mode; trains nothing and changes no variable.

        The loss is that of `fit`, regularisers included. Random layers draw what they would draw in
        a training step now, and will draw it again in the next one: so `seed_on_batch` and then
        `train_second_on_batch`, on the same batch, is a training step of the second part.

        Args:
            x: The inputs of a batch, as in `train_on_batch`.
            y: The targets.
            sample_weight: A weight for each row, or None.

        Returns:
            NumPy arrays in the structure of IV: float64 for IVs of float64, else float32; None for
            what no gradient flows back to, such as integers.

        Raises:
            SplitError: The model is not compiled.
            CutError: IV does not separate the parts.
        """
        return stored_seeds.seed_on_batch(self, x, y, sample_weight)

    def train_second_on_batch(self, x: Any, seed: Any) -> None:
        """One step of the second part from a seed, on the weights as they are now.

        Needs neither the first part nor targets. The losses that the second part adds itself, such
        as those of regularisers, count as in `fit`. The count of batches of `first_steps` and
        `second_steps` stays as it is.

        Args:
            x: The inputs of the batch that the seed belongs to.
            seed: What `seed_on_batch` has returned: floats in the structure and the shapes of IV.

        Raises:
            SplitError: The model is not compiled, or the second part has no optimizer or is frozen.
            SeedError: The seed does not fit IV.
        """
        stored_seeds.train_second_on_batch(self, x, seed)

    def merged(self) -> Any:
        """Both parts as one plain functional keras.Model, with the same layers.

        It needs no splitop, wherever it is saved, loaded or exported.

        Raises:
            SplitError: The second part has no symbolic inputs: it is neither functional nor
                sequential, or not built.
        """
        inputs = cutting.inputs_of(self.second_part)
        if inputs is None:
            raise SplitError(
                "the second part must be a functional or sequential model that is built. "
                f"Received: {describe(self.second_part)}."
            )
        return keras.Model(inputs, self.first_part(self.second_part(inputs)), name=self.name)

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Saves both parts, with both optimizers' states: `keras.Model.save`.

        Raises:
            SplitError: `filepath` is one of Keras' old HDF5 format, which has no place for a model
                with two optimizers.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise SplitError(
                f"a SplitModel is saved as a .keras file, or its weights as a .weights.h5 file "
                f"(save_weights). Received: {str(filepath)!r}."
            )
        super().save(filepath, *args, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """Exports the forward pass of both parts: `keras.Model.export`.

        A SavedModel is plain TensorFlow, and is served where splitop is not installed.
        """
        if cutting.inputs_of(self.second_part) is None:
            return super().export(*args, **kwargs)
        return self.merged().export(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make a model like this one."""
        return {
            "name": self.name,
            "second_part": keras.saving.serialize_keras_object(self.second_part),
            "first_part": keras.saving.serialize_keras_object(self.first_part),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> SplitModel:
        """A model from `get_config`."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("second_part", "first_part")
        }
        return cls(**{**config, **parts})

    def get_compile_config(self) -> dict[str, Any]:
        """The arguments of `compile`."""
        config = {} if self._training is None else self._training.config
        return {name: keras.saving.serialize_keras_object(v) for name, v in config.items()}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles the model as `get_compile_config` says."""
        self.compile(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})

    def save_own_variables(self, store: Any) -> None:
        """Saves what Keras would not: the states of random layers, and of the cycle of steps."""
        super().save_own_variables(store)
        for name, variable in self._further_state().items():
            store[name] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` has saved."""
        saved = {key: store[key] for key in list(store.keys())}
        further = {key: saved.pop(key) for key in list(saved) if key.startswith(_FURTHER)}
        super().load_own_variables(saved)
        for name, variable in self._further_state().items():
            if name in further:
                variable.assign(further[name])

    def _further_state(self) -> dict[str, Any]:
        weights = {id(weight) for weight in self.weights}
        random = [variable for variable in self.variables if id(variable) not in weights]
        state = {f"{_FURTHER}random_{at}": variable for at, variable in enumerate(random)}
        batches = None if self._training is None else self._frequency.batches
        return state if batches is None else {**state, f"{_FURTHER}batches": batches}

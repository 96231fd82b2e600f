"""Cut a Keras model in two and train each part with an optimizer of its own.

    python examples/keras_cut.py

Needs scikit-learn for its 1,797 images of digits.
"""

import pathlib
import tempfile

import keras
import numpy as np
from sklearn.datasets import load_digits

from splitop.keras import ForSecondPart, SplitModel

keras.utils.set_random_seed(1)
images, labels = load_digits(return_X_y=True)
order = np.random.default_rng(1).permutation(len(images))
images, labels = images[order].astype("float32") / 16, labels[order]
train, test = slice(0, 1500), slice(1500, None)

# A Keras model like any other.
model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(128, "relu", kernel_regularizer=keras.regularizers.L2(1e-5)),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(32, "relu", name="code"),  # its output is IV
        keras.layers.Dense(10),
    ]
)

# The second part ends with the layer "code", the first part is what comes after it.
split = SplitModel.cut(model, "code")
split.compile(
    first_optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
    second_optimizer=keras.optimizers.Adam(2e-3),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
    first_steps=1,  # The first part trains in every other batch,
    second_steps=2,  # the second part in each.
)
halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * (0.5 if epoch else 1))
split.fit(
    images[train],
    labels[train],
    epochs=5,
    verbose=2,
    validation_data=(images[test], labels[test]),
    callbacks=[ForSecondPart(halve)],  # On the second optimizer; without it: on the first one.
)

print(f"\n{split.plans}\n")
steps = [int(o.iterations.numpy()) for o in (split.optimizer, split.second_optimizer)]
print(f"Steps of the first and of the second part: {steps[0]} and {steps[1]}")

# Later, a second part can train from seeds (dL/dIV) alone: no labels, no first part.
seed = split.seed_on_batch(images[:32], labels[:32])
split.train_second_on_batch(images[:32], seed)
print(f"One more step of the second part, from a seed of shape {seed.shape}")

# It saves and loads with both optimizers, so that training goes on.
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "split.keras"
    split.save(path)
    loaded = keras.models.load_model(path)
same = np.array_equal(loaded.predict(images, verbose=0), split.predict(images, verbose=0))
print(f"The loaded model predicts the same: {same}")
_, accuracy, *_ = loaded.evaluate(images[test], labels[test], verbose=0)
print(f"Accuracy on images that it has not seen: {accuracy:.3f}")

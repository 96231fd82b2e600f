"""Convolutions of many kinds, and their results in float64."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """Sizes of a convolution: images, [batch, rows, columns, channels], and of its filter."""

    images: tuple[int, int, int, int]
    size: tuple[int, int]
    filters: int
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    padding: str | tuple[tuple[int, int], tuple[int, int]] = "VALID"

    @property
    def attributes(self) -> dict[str, Any]:
        explicit = not isinstance(self.padding, str)
        return {
            "strides": [1, *self.strides, 1],
            "dilations": [1, *self.dilations, 1],
            "padding": "EXPLICIT" if explicit else self.padding,
            "explicit_paddings": [0, 0, *np.ravel(self.padding), 0, 0] if explicit else [],
        }

    def pads(self) -> list[tuple[int, int]]:
        """Before and after, of rows and columns: TensorFlow's rule."""
        if not isinstance(self.padding, str):
            return list(self.padding)
        if self.padding == "VALID":
            return [(0, 0), (0, 0)]
        pads = []
        for d in range(2):
            input_size, stride = self.images[1 + d], self.strides[d]
            extent = (self.size[d] - 1) * self.dilations[d] + 1
            total = max((-(-input_size // stride) - 1) * stride + extent - input_size, 0)
            pads.append((total // 2, total - total // 2))
        return pads

    def taps(self, padded: np.ndarray) -> list[tuple[int, int, tuple[slice, ...]]]:
        """What each element of the filter meets in padded images."""
        found = []
        for k, j in itertools.product(*map(range, self.size)):
            parts = [slice(None)]
            for d, tap in enumerate((k, j)):
                extent = (self.size[d] - 1) * self.dilations[d] + 1
                first = tap * self.dilations[d]
                count = (padded.shape[1 + d] - extent) // self.strides[d] + 1
                last = first + (count - 1) * self.strides[d] + 1 if count > 0 else first
                parts.append(slice(first, last, self.strides[d]))
            found.append((k, j, (*parts, slice(None))))
        return found


# Of the windows for dL/dW; the second one begins within a row.
TWO_SHARES = Case((7, 11, 15, 5), (3, 3), 9, padding="SAME")
CASES = [
    Case((1, 1, 1, 1), (1, 1), 1),
    Case((2, 7, 6, 3), (3, 3), 5),
    Case((2, 7, 6, 3), (3, 3), 5, padding="SAME"),
    Case((3, 9, 8, 70), (1, 1), 33),
    Case((2, 9, 8, 17), (1, 1), 5, strides=(2, 1)),
    Case((2, 17, 16, 33), (3, 2), 45, padding="SAME"),
    Case((3, 17, 16, 9), (3, 2), 16, strides=(2, 3), padding="SAME"),
    Case((3, 17, 16, 7), (5, 4), 17, dilations=(2, 1), padding="SAME"),
    Case((2, 12, 19, 5), (3, 4), 20, dilations=(2, 3)),
    Case((3, 9, 8, 7), (3, 3), 300, padding=((1, 2), (3, 0))),
    Case((1, 5, 4, 2), (2, 3), 3, padding=((4, 5), (3, 6))),  # windows without any element
    Case((5, 15, 15, 20), (2, 3), 64),
    Case((64, 20, 20, 3), (3, 3), 18),  # many windows of few elements
    Case((2, 3, 3, 260), (3, 3), 10, padding="SAME"),
    Case((2, 9, 8, 64), (1, 5), 20),  # as deep as a block of the filter may be, of floats
    Case((2, 5, 9, 130), (3, 3), 20),  # a row of the filter in several parts
    Case((1, 5, 9, 258), (2, 3), 10, strides=(1, 2)),  # windows far from each other
    Case((4, 9, 15, 6), (4, 3), 16, padding=((3, 3), (0, 0))),  # two rows of windows in a tile
    TWO_SHARES,
    Case((5, 40, 1, 9), (3, 1), 16, padding="SAME"),  # rows of one window that go on
    Case((5, 40, 1, 9), (3, 1), 16),  # not in the next image
    Case((5, 40, 1, 9), (3, 1), 16, strides=(2, 1)),  # nor in the next row
    Case((9, 3, 1, 9), (3, 1), 16),
    Case((2, 10, 8, 5), (3, 2), 16, strides=(1, 2)),
    Case((1, 6, 7, 530), (3, 3), 450, padding="SAME"),  # a filter that no cache has
]
LARGE = CASES[-1]
# The rows of a tile of the convolution, or of its images' gradient, start in one set of a cache.
ALIASING = [Case((2, 9, 9, 1024), (2, 2), 16), Case((2, 9, 9, 8), (2, 2), 1024)]


def tensors(case: Case, dtype: str) -> tuple[np.ndarray, ...]:
    """x, the filter, the bias and dz."""
    random = np.random.default_rng(0)
    x = random.normal(size=case.images)
    weights = random.normal(size=(*case.size, case.images[3], case.filters))
    bias = random.normal(size=case.filters)
    dz = random.normal(size=exact(case, x, weights)[0].shape)
    return tuple(each.astype(dtype) for each in (x, weights, bias, dz))


def exact(case: Case, x: Any, weights: Any, dz: Any = None) -> list[np.ndarray]:
    """z, and, given dz, dL/dW, dL/db and dL/dx, in float64."""
    x, weights = x.astype("f8"), weights.astype("f8")
    pads = case.pads()
    padded = np.pad(x, [(0, 0), *pads, (0, 0)])
    taps = case.taps(padded)
    z = sum(padded[part] @ weights[k, j] for k, j, part in taps)
    if dz is None:
        return [z]
    dz = dz.astype("f8")
    dfilter, dpadded = np.zeros_like(weights), np.zeros_like(padded)
    for k, j, part in taps:
        dfilter[k, j] = np.einsum("nijc,nijf->cf", padded[part], dz)
        dpadded[part] += dz @ weights[k, j].T
    (top, _), (left, _) = pads
    dx = dpadded[:, top : top + x.shape[1], left : left + x.shape[2]]
    return [z, dfilter, dz.sum((0, 1, 2)), dx]


def assert_close(received: Any, expected: np.ndarray, count: int, dtype: str) -> None:
    """Within the rounding of sums of so many terms of about 1."""
    assert received.dtype == dtype
    assert received.shape == expected.shape
    atol = 4 * np.finfo(dtype).eps * (np.sqrt(count) + 1) * 4
    np.testing.assert_allclose(received, expected, rtol=0, atol=atol * np.sqrt(count))


def terms(case: Case, z: np.ndarray) -> list[int]:
    """How many terms z, dL/dW, dL/db and dL/dx are sums of."""
    taps = case.size[0] * case.size[1]
    windows = z.size // case.filters
    return [taps * case.images[3], windows, windows, taps * case.filters]

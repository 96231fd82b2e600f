"""The parts of a model on different hosts of one owner, in TensorFlow's own cluster runtime."""

from __future__ import annotations

from splitop._src.cluster.cluster import Cluster
from splitop._src.cluster.traffic import Crossing, Traffic, bytes_across

__all__ = ["Cluster", "Crossing", "Traffic", "bytes_across"]

"""Prints TensorFlow's version and flags for cmake/FindTensorFlow.cmake."""

from __future__ import annotations

import tensorflow as tf

print("splitop VERSION", tf.__version__)
print("splitop COMPILE_FLAGS", ";".join(tf.sysconfig.get_compile_flags()))
print("splitop LINK_FLAGS", ";".join(tf.sysconfig.get_link_flags()))

"""Parts on different hosts, in TensorFlow's own cluster runtime."""

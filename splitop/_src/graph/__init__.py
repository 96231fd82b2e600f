"""Reading TensorFlow graphs: what a gradient is computed from, and by which ops."""

"""`splitop.keras.SplitModel`: a model of two parts, as a Keras model."""

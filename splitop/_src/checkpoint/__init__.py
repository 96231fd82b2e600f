"""Checkpoints of the parts: complete or not there, with a step stamp for each part."""

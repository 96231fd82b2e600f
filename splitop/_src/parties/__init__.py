"""Parts that run in processes of their own, each with its owner's data, weights and checkpoints."""

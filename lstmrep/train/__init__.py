"""Training: configuration, optimizers, the loop, checkpoints, exact resume."""

"""The one training loop: order, budgets, precision, devices, checkpoints and progress for everything that learns by
gradient."""

"""Removal paths: which parts go first, what is left of the model then, and pruned checkpoints."""

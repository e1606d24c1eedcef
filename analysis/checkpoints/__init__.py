"""Checkpoints of pruned models: what is written for stock loaders, read back, and described on a card."""

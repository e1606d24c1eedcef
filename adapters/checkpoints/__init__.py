"""Checkpoints on disk: layouts as tables, exports, quantised files, stock loaders that read them back."""

"""Sweeps that take gradients on more documents than they sweep, and are the more precise for it."""

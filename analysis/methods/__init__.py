"""Structured pruning methods of others on one contract, compared where as much is gone."""

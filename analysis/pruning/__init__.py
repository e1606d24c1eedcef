"""Pruning: which parts go first, and what is left of the model then? (notebooks/pruning.ipynb)"""

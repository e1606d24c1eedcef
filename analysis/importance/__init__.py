"""Importance: do cheap metrics order the blocks as the loss does? (notebooks/importance.ipynb)"""

"""Depth: which layers can go? (notebooks/depth.ipynb)"""

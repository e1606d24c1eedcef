"""Redundancy: how much of one model can go, in depth or in width, and does Block Influence know? (notebooks/redundancy.ipynb)"""

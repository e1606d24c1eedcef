"""Width: which heads can go? (notebooks/width.ipynb)"""

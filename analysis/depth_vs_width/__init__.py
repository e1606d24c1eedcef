"""Depth against width: what is cheaper to remove where as much is saved? (notebooks/depth_vs_width.ipynb)"""

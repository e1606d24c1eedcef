"""Quantised models: made, measured, and with blocks removed before and after (paper, Table 2)."""

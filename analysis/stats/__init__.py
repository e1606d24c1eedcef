"""Intervals, decisions and agreement of orders, from sums per document."""

"""Importance of parts from plain passes."""

"""Removal paths: orders, the searches that find them, their losses and what they save."""

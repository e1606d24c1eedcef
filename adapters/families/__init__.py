"""One adapter for each family of models."""

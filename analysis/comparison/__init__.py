"""Several models on the same bytes: redundancy, its spread over seeds, and over training."""

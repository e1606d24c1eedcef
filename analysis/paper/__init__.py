"""What ShortGPT (arXiv 2403.03853v1) prints: sizes, removed sets, Table 1."""

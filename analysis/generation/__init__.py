"""What a model writes as its blocks are removed."""

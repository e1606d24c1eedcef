"""GGUF files as model folders: all that a file says of the model is used, known to change nothing, or refused by name."""

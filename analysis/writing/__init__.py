"""What text says of the model that wrote it: agreement with the dense model, repetition, and its loss under the dense model."""

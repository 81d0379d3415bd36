"""Models and tensors: loading, scoring at the mask, losses, training, inference."""

"""Training under constraints, prediction and evaluation."""

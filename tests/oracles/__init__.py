"""Slow, plain evaluators that the fast ones are held against."""

"""Detectors and their backbones."""

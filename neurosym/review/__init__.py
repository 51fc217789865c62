"""Candidates with their evidence → what an expert reads; without torch."""

from neurosym.review.candidates import load_candidates, save_candidates
from neurosym.review.report import write_report

__all__ = ["load_candidates", "save_candidates", "write_report"]

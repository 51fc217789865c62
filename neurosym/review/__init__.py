"""Candidates with their evidence → what an expert reads → verdicts → rule files; without torch."""

from neurosym.review.candidates import load_candidates, save_candidates
from neurosym.review.ledger import Ledger, Verdict
from neurosym.review.publish import Publication, publish
from neurosym.review.report import write_report

__all__ = ["Ledger", "Publication", "Verdict", "load_candidates", "publish", "save_candidates", "write_report"]

"""``python -m neurosym``."""

from neurosym.cli import main

main()

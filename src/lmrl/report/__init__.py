"""Runs beside each other on one page: `python -m lmrl.report`."""

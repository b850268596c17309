"""Sweeps: many runs from one command, as processes or in a cluster's queue. Needs no torch."""

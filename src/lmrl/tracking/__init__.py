"""Where runs are recorded: what a tracker is, and what it is told."""

from lmrl.tracking.core import CsvTracker, MetricsFile, NoTracker, RunIdentity, Tracker, final_metrics

__all__ = ["CsvTracker", "MetricsFile", "NoTracker", "RunIdentity", "Tracker", "final_metrics"]

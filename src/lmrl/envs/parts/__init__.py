"""Building blocks that environments share or are too long for one file; no environment is in here."""

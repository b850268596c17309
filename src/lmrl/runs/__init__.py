"""A run's folder: named, locked, written, and read back."""

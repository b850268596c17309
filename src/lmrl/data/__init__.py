"""Offline data: recipes that make them, files that hold them, importers, filters, and a command for all that."""

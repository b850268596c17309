"""The machine: signals, files written whole, cores and accelerators."""

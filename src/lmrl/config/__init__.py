"""The configuration: composed from `conf/`, checked value by value before PyTorch is imported."""

"""The other side of a dialogue, played by a language model."""

"""lmrl: train language models by multi-turn reinforcement learning, from configuration files."""

__version__ = "0.2.0"

"""Language models, their tokenizers, value heads and key-value caches."""

"""Episodes as text and as tokens; knows nothing of environments, models or Lightning."""

"""How fast training steps and rollouts are, next to plain Hugging Face code that does the same work."""

"""Playing tasks in the terminal."""

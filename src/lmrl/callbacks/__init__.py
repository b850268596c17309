"""Lightning callbacks: validation, progress and resumable checkpoints."""

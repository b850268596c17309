"""What happens beside training: evaluation and export."""

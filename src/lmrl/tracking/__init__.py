"""Where runs are recorded: MLflow, CSV files, or only the run folder."""

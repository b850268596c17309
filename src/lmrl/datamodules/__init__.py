"""Lightning data modules: fixed trajectories, and trajectories that the current policy collects."""

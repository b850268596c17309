"""Pictures of runs: learning curves for every task, and what a task can show of a policy."""

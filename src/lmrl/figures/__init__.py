"""Pictures of runs: learning curves of every task, and a task's own pictures of a policy."""

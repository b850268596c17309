"""Many runs from one command: what the jobs are, where they run, and what came of them. Needs no torch."""

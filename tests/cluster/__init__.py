"""Real schedulers on this machine: Slurm with one node, Ray with several. Long tests, skipped where these are not installed."""

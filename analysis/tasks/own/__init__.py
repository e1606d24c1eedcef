"""Tasks in the format of lm-evaluation-harness that it lacks."""

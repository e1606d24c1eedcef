"""The sweep: families of ablations, the plan that shares their work, the executor, and what it costs."""

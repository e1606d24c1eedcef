"""Width: every head, what it saves, and depth against width at equal cost."""

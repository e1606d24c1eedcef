"""What is measured and how: machinery in rooms of its own, and for each notebook a folder whose `study` makes what it shows."""

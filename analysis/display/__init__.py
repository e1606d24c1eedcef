"""How results are shown: figures, tables, and numbers as words; sentences are functions of numbers."""

"""Measured expression: the files it comes in, where its spots lie, and sections ready to learn from."""

"""Weights: a folder of them, what it says of itself, and the Hugging Face Hub."""

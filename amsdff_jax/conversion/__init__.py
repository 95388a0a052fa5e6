"""Weights to and from PyTorch, and the proof that they are the same."""

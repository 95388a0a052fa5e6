"""Weights and folders of other programs: transformers, PyTorch, the Hugging Face hub."""

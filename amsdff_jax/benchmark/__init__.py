"""The project against the PyTorch model, side by side on one machine."""

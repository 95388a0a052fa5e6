"""From files and pipes of texts to files and pipes of predictions."""

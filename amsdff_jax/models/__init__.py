"""The classifier, one stage a file."""

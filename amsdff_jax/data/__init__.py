"""Texts: where they come from, how they become tokens, and which share a batch."""

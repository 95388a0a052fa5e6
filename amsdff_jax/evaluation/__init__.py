"""Logits to numbers, tables and pictures."""

"""Answers over HTTP: texts of many clients in common batches."""

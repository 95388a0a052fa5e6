"""Comparisons that can be believed: many runs, their statistics and their report."""

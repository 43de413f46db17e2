"""Measurements: one script a claim; each prints a table and can write JSON."""

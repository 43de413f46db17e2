"""Procedural faces in RGB and NIR with class masks: data on which everything can be tried."""

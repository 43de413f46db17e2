"""Torch helpers that know nothing of faces: operations, seeding, checkpoints, statistics."""

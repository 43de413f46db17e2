"""Recognisers, embeddings, detection and alignment, comparison scores, thresholds."""

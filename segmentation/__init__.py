"""Segmentation: networks that learn class masks from labelled data sets, ours or real ones."""

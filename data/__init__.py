"""Pairs of RGB and NIR images: pixels, matching, labels, data sets, import and checks."""

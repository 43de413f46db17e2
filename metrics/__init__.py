"""Measures of images, masks, comparisons, identities and privacy, and the report of them."""

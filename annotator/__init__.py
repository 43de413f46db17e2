"""The page on which images are annotated, and the server behind it."""

"""One evaluation: quality, masks, verification, identities, privacy, and its report."""

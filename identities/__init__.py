"""New identities: candidates, selection, rules, the filter and its data sets."""

"""Procedural example faces: paired RGB and NIR renders with masks and identities."""

"""Reports: sections of tables, charts and pictures as one HTML file, as JSON and as text."""

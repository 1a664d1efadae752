"""The store: records, tables and the artifact cache."""

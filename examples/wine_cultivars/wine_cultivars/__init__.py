"""A dataset that lives outside the suite."""

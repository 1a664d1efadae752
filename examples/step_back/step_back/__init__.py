"""A threat that lives outside the suite."""

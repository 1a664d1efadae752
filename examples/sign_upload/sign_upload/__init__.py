"""A defense that lives outside the suite."""

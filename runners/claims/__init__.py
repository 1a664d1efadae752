"""Claims of papers and accepted baselines, compared with records."""

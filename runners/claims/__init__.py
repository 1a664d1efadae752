"""Claims of papers and accepted baselines, held against records."""

"""Attacks that infer a sensitive attribute of people or a property of batches."""

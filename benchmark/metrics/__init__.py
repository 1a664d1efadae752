"""Pure functions: tensors in, floats or tensors out. Every docstring tells range and sense."""

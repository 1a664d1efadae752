"""Malicious participants of a collaboration who damage the global model or plant a backdoor in it."""

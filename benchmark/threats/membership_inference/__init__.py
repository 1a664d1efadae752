"""Attacks that infer whose data a release or a global model was made from."""

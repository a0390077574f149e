"""Asking a model for every held-out user, its figures, baselines, and comparing two."""

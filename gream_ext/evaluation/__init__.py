"""Metrics, protocol, baselines and the report."""

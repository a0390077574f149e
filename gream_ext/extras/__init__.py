"""What the system can do without: each room is an optional dependency that only the pipeline and the CLI import."""

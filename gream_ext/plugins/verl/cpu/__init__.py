"""What exists for Verl on a CPU alone: a platform, a rollout and its server."""

"""Running stages: records, resuming, launching the frameworks, cleaning up after them."""

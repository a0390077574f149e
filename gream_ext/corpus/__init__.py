"""Training text: alignment tasks, reasoning data, RL prompts and their templates."""

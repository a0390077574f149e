"""The base model: a small Qwen3 or any causal LM, with identifier tokens added and initialised."""

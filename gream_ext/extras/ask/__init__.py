"""Text that an LLM behind an OpenAI-compatible endpoint writes: item texts, preferences, queries, reasonings."""

"""Decoding that can only end in real items: trie, beam search, logits processors."""

"""The embedded engine: a Hugging Face causal language model in this process."""

from gream_ext.decoding.sampler import TokenSample, sample_steps, sample_tokens

__all__ = ["TokenSample", "sample_steps", "sample_tokens"]

"""GREAM, generative reasoning recommendation, as plug-ins for LLaMA-Factory, Verl and SGLang.

Importing this package loads the standard library only; every room imports what it
needs. docs/architecture.md shows the rooms, docs/paper_map.md where each equation lives.
"""

__version__ = "0.1.0"

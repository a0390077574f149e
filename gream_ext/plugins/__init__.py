"""What we register in llamafactory, verl, hydra and sglang, and a program for recbole's own environment.

No framework is imported elsewhere, but SGLang by its engine's own file and Ray by the embedding's.
"""

"""What we register in llamafactory, verl, hydra and sglang; no framework is imported elsewhere."""

"""What we register in Verl: the SRPO estimator, the group filter, and the CPU platform."""

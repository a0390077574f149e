"""Looking at what a run wrote: the data card, samples, initialisations compared."""

"""From a source of interactions to histories: reading, k-core, leave-one-out."""

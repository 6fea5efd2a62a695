"""One process for each GPU, which computes the pairs of all workers."""

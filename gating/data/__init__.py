"""From a store and a split to the batches that networks read."""

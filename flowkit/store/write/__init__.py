"""Write a store: one video at a time, then all of them as one file or as shards."""

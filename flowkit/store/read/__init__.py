"""Open a store and read its clips, from the index and the file directly or through h5py."""

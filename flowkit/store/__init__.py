"""The HDF5 frame and flow store, format 1.0: schema, writer, reader, packing, verification."""

"""Files of flow and their folders: .flo, arrays, KITTI's PNG, pairs of images of u and v."""

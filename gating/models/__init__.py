"""The networks: backbones, the two streams, the gate, and the weights that they start from."""

"""Train a stream or the gate: the loop, its tasks, its optimiser and its checkpoints."""

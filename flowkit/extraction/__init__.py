"""Videos → a store: the plan, the pipeline of one video, and the run over worker processes."""

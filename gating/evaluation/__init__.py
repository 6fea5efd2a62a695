"""Evaluation: networks → scores of clips → every fusion fitted and compared → the table over all trials."""

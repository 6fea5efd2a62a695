"""What the processes of a run share."""

"""Progress that the processes of a run share."""

"""Work on finished stores: check, repair, merge, cut and relabel them."""

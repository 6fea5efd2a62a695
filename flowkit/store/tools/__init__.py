"""Work on finished stores: check, repair, merge, cut, relabel and recode them."""

"""Tools for finished stores: verify, repair, merge, subset, relabel, recode."""

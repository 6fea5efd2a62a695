"""Training of heads alone: features of frozen backbones, computed once, and what is fitted on them."""

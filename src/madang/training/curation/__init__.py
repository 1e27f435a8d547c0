"""curation: which examples are worth learning from, and new ones.

Main path: :class:`Filter` judges by rules, likelihood and a classifier; duplicates.py finds what is there twice,
contamination.py what a model will be measured on, synthesis.py has a model write more.
Invariants: what is dropped has a reason with its number; what a model wrote says which one, from what and with which
seed.
"""

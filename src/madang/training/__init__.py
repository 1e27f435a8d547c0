"""training: from examples to a tuned model whose change is known.

Main path: examples/ reads and renders what a model is to learn; curation/ chooses, cleans and makes it.
Invariants: what is trained on is rendered by the same template and tokenizer that run the model; a row that cannot be
used is named by its line and counted, never dropped in silence; no file is changed in place.
"""

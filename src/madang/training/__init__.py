"""training: from examples to a tuned model whose change is known.

Main path: examples/ reads and renders what a model is to learn; curation/ chooses, cleans and makes it;
:func:`madang.training.tuning.tune` plans a run, trains, and compares the result with its base.
Invariants: what is trained on is rendered by the same template and tokenizer that run the model; a row that cannot be
used is named by its line and counted, never dropped in silence; no file is changed in place; a run that ended is scored
beside its base, and one that was ended goes on at its last checkpoint.
"""

"""training: from examples to a model that is better, smaller or of several, whose change is known.

examples/     rows of any common form -> conversations -> tokens with labels, by the template that runs the model
curation/     which rows: duplicates, filters, contamination, and ones that a model writes
tuning.py     fine-tuning: plan, train, compare with the base; config.py, planning.py, loop.py, scoring.py are its parts
distilling/   a student learns what a teacher says: its distribution, its answers, or what it says of the student's own
pruning/      layers, FFN columns and heads that do least leave
merging/      one model of several, without training
exporting/    the result as others read it, each file through a gate that compares it with what was trained
runs.py       the folder of a run; certificate.py and reporting.py say what a model lost and won

What all that train share: batching.py -> loss.py -> optimizer.py -> checkpoints.py and journal.py; folding.py puts an
adapter into weights, folders.py writes weights as folders.
Invariants: a row that cannot be used is named by its line and counted, never dropped in silence; no file is changed in
place; a run that was ended goes on at its last checkpoint, and one that ended is scored beside its base.
"""

"""The algorithms, one file per paper; they share mathematics through `lmrl.functional` and never import each other."""

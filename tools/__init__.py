"""Commands of this repository that are not part of the operator: the check of the English, and figures of the code."""

"""The classifier, one stage a file.

Letters of shapes: B texts of S tokens, H features of the encoder, F or D others; C classes, E experts, N attention
heads, Q queries. `_` is any number.
"""

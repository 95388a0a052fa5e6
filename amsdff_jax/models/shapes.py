"""Types of the arrays that go through a model.

Letters of shapes: B texts of S tokens, H features of the encoder, F or D others; C classes, E experts, N attention
heads, Q queries. `_` is any number.
"""

from jaxtyping import Array, Bool, Float, Float32, UInt32

Features = Float[Array, "B S H"]
Features32 = Float32[Array, "B S H"]
Mask = Bool[Array, "B S"]  # true on real tokens
Seed = UInt32[Array, "2"]  # of all dropouts of one call, from `dropout_seed`

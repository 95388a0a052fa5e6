"""Stage 1: pretrained encoders, one family a file, under the names that transformers gives their parts."""

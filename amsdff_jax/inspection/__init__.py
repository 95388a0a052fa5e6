"""What texts are like before a model is trained on them, and what is wrong with them."""

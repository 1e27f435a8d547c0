"""quantization: weights in fewer bits, and what that costs."""

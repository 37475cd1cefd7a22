"""Networks: each an `nn.Sequential` of named blocks, the last one the linear read-out (see `block`)."""

"""Networks. Each is an `nn.Sequential` of named blocks, the last of which is the linear output layer (see `block`)."""

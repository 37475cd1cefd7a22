"""The command line between a user and Hydra: reading arguments, composing configs, saying what is wrong with them.

`private` lists the inner parts of Hydra that this needs.
"""

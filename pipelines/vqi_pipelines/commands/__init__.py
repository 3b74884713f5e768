"""One module a command of `vqi`; heavy imports lie inside the functions."""

"""The executable specification: every integer definition in plain Python integers.

One module per definition. The C reference, the SIMD kernels and the torch bodies are each compared with these
functions, bit for bit. Nothing here is meant to be fast; everything is meant to be read beside docs/numerics.
"""

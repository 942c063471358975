"""Exceptions and values as bounded, redacted data, made without running any code of the program.

`exceptions` captures, `errorcodec` writes and reads what was captured, `tracebacks` renders it, and
`saferepr` makes texts of values.
"""

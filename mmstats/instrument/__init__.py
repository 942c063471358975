"""Instruments: stats of what programs are built on. One module a thing measured."""

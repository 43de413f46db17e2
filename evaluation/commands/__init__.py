"""The commands of evaluate.py, one module a command: options, and the call behind them.

Importing them must stay cheap: click and dnnlib at the top, everything else inside functions.
"""

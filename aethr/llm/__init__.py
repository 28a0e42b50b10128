"""Calls to models: one backend, one file a transport, prices, budgets, errors in plain words."""

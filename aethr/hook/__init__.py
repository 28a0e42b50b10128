"""The hook's edge: which change a stage is about, what is refused there, and what is said at the end."""

"""The Action's edge: what the runner says, which change it is about, what it writes back."""

"""From a workflow file and its options to a plan: every name bound, nothing called."""

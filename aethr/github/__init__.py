"""The Action: the runner's event and inputs, the change and its workflow, and what the review leaves."""

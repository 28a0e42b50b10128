"""Records to people and to machines: terminals, reports, Markdown, SARIF."""

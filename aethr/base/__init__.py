"""What every room may use: records, errors, text made safe, files, child processes, addresses."""

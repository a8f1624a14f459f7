"""What works on runs or data without training them: a file a command."""

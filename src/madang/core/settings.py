"""What the user set, and where: command line > environment > config file > default."""

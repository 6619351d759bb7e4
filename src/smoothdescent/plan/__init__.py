"""What is still to be done, and what it will cost on the present machine."""

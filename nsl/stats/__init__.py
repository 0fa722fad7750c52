"""What maps and measurements say of each other, with neighbours counted for what they are worth."""

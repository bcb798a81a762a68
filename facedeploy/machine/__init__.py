"""What a Jetson says of itself. docs/reference/jetson.md says what is read."""

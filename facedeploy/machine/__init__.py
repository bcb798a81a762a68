"""What a Jetson says of itself. docs/jetson.md says what is read."""

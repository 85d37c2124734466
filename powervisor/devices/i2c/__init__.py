"""The I2C bus, its controller and the devices on it."""

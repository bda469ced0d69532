"""Sources of images, and their ways to the device."""

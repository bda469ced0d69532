"""Sources of images, and how the images reach the device."""

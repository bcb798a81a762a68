"""facedeploy: from a face model's PyTorch checkpoint to the device that it must run on."""

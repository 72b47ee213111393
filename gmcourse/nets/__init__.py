"""Plain modules without probability in them: multilayer perceptrons, convolutional nets, residual cells, feature maps."""

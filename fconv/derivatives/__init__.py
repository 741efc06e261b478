"""Derivatives beyond the gradient: tangents, curvature, gradients by example, gradients of gradients."""

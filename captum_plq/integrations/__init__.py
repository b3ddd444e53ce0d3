"""Pixel-level quality in the conventions of other toolkits, each imported only by who asks.

- :mod:`captum_plq.integrations.quantus`: Quantus, which measures explanations.
- :mod:`captum_plq.integrations.grad_cam`: pytorch-grad-cam.
"""

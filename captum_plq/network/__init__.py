"""Looking into any ``nn.Module`` and leaving it as it was.

The embedding layer and the part of the network behind it, one forward that gives clean and
stochastic embeddings, and a per-call copy of the modules that carries all hooks and modes.
"""

"""What other people's faces say of a face: principal components, which ask no network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_COMPONENTS = 64


@dataclass(frozen=True)
class Eigenfaces:
    """The principal components of aligned RGB faces (Turk & Pentland, 1991).

    Args:

        mean (Tensor): (D,), D = 3 · H · W.
        basis (Tensor): (k, D), orthonormal.
        variances (Tensor): (k,), of the faces along these, > 0.
        noise (float): Mean variance along all other directions.
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor
    noise: float

    @classmethod
    def of(cls, faces: Tensor, components: int = _COMPONENTS) -> Eigenfaces:
        """Return the first components of faces.

        Args:

            faces (Tensor): (n, 3, H, W), n ≥ 2, not all equal.
            components (int): How many, ≥ 1; of fewer than twice as many faces, half as many as
                these.
        """
        flat = faces.flatten(1)
        mean = flat.mean(0)
        _, lengths, basis = torch.linalg.svd(flat - mean, full_matrices=False)
        kept = max(1, min(components, len(flat) // 2))
        variances = lengths.square() / (len(flat) - 1)
        noise = float(variances[kept:].sum()) / (flat.shape[1] - kept)
        return cls(mean, basis[:kept], variances[:kept], noise)

    def reconstructed(self, images: Tensor) -> Tensor:
        """Return the images' projections on the components, (B, 3, H, W)."""
        centred = images.flatten(1) - self.mean
        return (self.mean + centred @ self.basis.T @ self.basis).view_as(images)

    def filled(self, images: Tensor, regions: Tensor) -> Tensor:
        """Return images whose regions show the face that the rest of the image lets expect.

        The conditional mean under probabilistic PCA (Tipping & Bishop, 1999): the components are
        fitted to the pixels outside, each held back by its own variance.

        Args:

            images (Tensor): (B, 3, H, W), 0–255.
            regions (Tensor): (B, H, W), bool, true where to fill.

        Returns:
            *Tensor*: (B, 3, H, W), whole numbers 0–255 in the regions.
        """
        filled = images.clone()
        for one, image, region in zip(filled, images, regions, strict=True):
            inside = region.to(images.device).expand_as(image).flatten()
            outside = self.basis[:, ~inside]
            seen = image.flatten()[~inside] - self.mean[~inside]
            precision = outside @ outside.T + torch.diag(self.noise / self.variances)
            weights = torch.linalg.solve(precision.double(), (outside @ seen).double())
            expected = self.mean[inside] + weights.to(seen) @ self.basis[:, inside]
            one.view(-1)[inside] = expected.round().clamp(0, 255)
        return filled

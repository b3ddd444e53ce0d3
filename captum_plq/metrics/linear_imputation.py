r"""The linear system of ROAD's imputation: a removed pixel is the mean of its neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["interpolate"]

_DIRECT = 1 / 6
_DIAGONAL = 1 / 12


def interpolate(images: Tensor, removed: Tensor) -> Tensor:
    r"""Fills removed pixels so that each is the weighted mean of its eight neighbours.

    Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML
    2022, without the noise:

    .. math:: x_i = \frac{\sum_{j \in N(i)} w_{ij} x_j}{\sum_{j \in N(i)} w_{ij}}
        \quad\text{for each removed } i

    with w = 1/6 for neighbours in the same row or column and 1/12 for diagonal ones. N(i) is
    what lies within the image: at the border the weights that are left are scaled up to one,
    as in the published solver.

    Times the denominators the system is symmetric and positive definite, and it is the same
    for all channels: one sparse factorisation per image.

    Args:

        images (Tensor): (B, C, H, W), floating point; left as they are.
        removed (Tensor): (B, H, W), bool.

    Returns:
        *Tensor*: (B, C, H, W), of the images' type and device; pixels not removed are as they
        were. An image of which nothing is left takes its mean colour.

    Raises:
        ImportError: if SciPy is not installed.

    Examples::

        >>> image = torch.tensor([[[[2.0, 0.0, 4.0]]]])
        >>> interpolate(image, torch.tensor([[[False, True, False]]]))
        tensor([[[[2., 3., 4.]]]])
    """
    filled = images.mean((2, 3), keepdim=True).expand_as(images).where(removed[:, None], images)
    some_left = removed.any(-1).any(-1) & ~removed.all(-1).all(-1)
    if not some_left.any():
        return filled
    filled = filled.contiguous()
    weights = _neighbour_weights(*images.shape[2:])
    for i in some_left.nonzero().flatten().tolist():
        gone = removed[i].flatten().cpu().numpy()
        pixels = images[i].detach().flatten(1).T.to("cpu", torch.float64).numpy()
        solution = _solve(weights, gone, pixels)
        filled[i][:, removed[i]] = torch.from_numpy(solution.T).to(images)
    return filled


def _neighbour_weights(height: int, width: int) -> Any:
    """(HW, HW), sparse and symmetric: the weight of each pixel in each other's mean."""
    sparse, _ = _scipy()
    down, across = (
        sparse.diags([np.ones(n - 1)] * 2, offsets=[-1, 1], shape=(n, n)) for n in (height, width)
    )
    direct = sparse.kron(down, sparse.identity(width)) + sparse.kron(
        sparse.identity(height), across
    )
    return (_DIRECT * direct + _DIAGONAL * sparse.kron(down, across)).tocsr()


def _solve(weights: Any, gone: Any, pixels: Any) -> Any:
    """Values (n, C) of the n pixels that are gone, from all pixels (HW, C)."""
    sparse, linalg = _scipy()
    of_gone = weights[gone]
    total = np.asarray(of_gone.sum(axis=1)).ravel()
    system = (sparse.diags(total) - of_gone[:, gone]).tocsc()
    known = of_gone[:, ~gone] @ pixels[~gone]
    # Symmetric and diagonally dominant: no pivoting is needed, and the ordering may assume it.
    factors = linalg.splu(
        system,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return factors.solve(known)


def _scipy() -> tuple[Any, Any]:
    try:
        from scipy import sparse
        from scipy.sparse import linalg
    except ImportError as error:
        raise ImportError(
            "Linear imputation needs SciPy, but it could not be imported; "
            "run: pip install 'captum-plq[benchmarks]'",
            name=error.name,
        ) from error
    return sparse, linalg

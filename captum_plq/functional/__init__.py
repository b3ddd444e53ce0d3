r"""The equations of pixel-level face image quality, as pure functions of tensors.

Numbers are those of Terhörst et al., "Pixel-Level Face Image Quality Assessment for
Explainable Face Recognition", IEEE T-BIOM 2023 ("the paper"). Where the authors' released
code computes something else than the paper prints, both forms are here, each by its name,
and the default is the paper's.

========================  =======================================  =====================
Equation                  Function                                 Range
========================  =======================================  =====================
1, inner sum              :func:`mean_pairwise_distance`           [0, 2] on unit vectors
1, quality :math:`Q`      :func:`quality_from_embeddings`          (0, 1]
2, :math:`\hat Q`         :func:`scale_quality`                    (0, 1)
3, node weights           :func:`node_weights`                     any
4, saliency :math:`S`     :func:`saliency`                         any
5, :math:`\hat S`         :func:`merge_channels`                   [0, inf)
6, pixel quality          :func:`pixel_quality`                    [0, 1]
7, change of quality      :func:`quality_change`                   [-1, 1]
8, change of pixels       :func:`pixel_quality_change`             [-1, 1]
Sec. VI, clipping         :func:`clip_gradient`                    any
========================  =======================================  =====================

Half-precision input is raised to float32 before anything is squared or summed; float64
stays float64.
"""

from captum_plq.functional.change import pixel_quality_change, quality_change
from captum_plq.functional.maps import (
    clip_gradient,
    gamma_for_median,
    merge_channels,
    pixel_quality,
    quality_map,
    rescale_gamma,
    saliency,
)
from captum_plq.functional.node import NodeWeights, node_direction, node_scale, node_weights
from captum_plq.functional.quality import (
    PairAverage,
    QualityScaling,
    mean_pairwise_distance,
    quality_from_distance,
    quality_from_embeddings,
    quality_with_standard_error,
    scale_quality,
    unit_length,
)

__all__ = [
    "NodeWeights",
    "PairAverage",
    "QualityScaling",
    "clip_gradient",
    "gamma_for_median",
    "mean_pairwise_distance",
    "merge_channels",
    "node_direction",
    "node_scale",
    "node_weights",
    "pixel_quality",
    "pixel_quality_change",
    "quality_change",
    "quality_from_distance",
    "quality_from_embeddings",
    "quality_map",
    "quality_with_standard_error",
    "rescale_gamma",
    "saliency",
    "scale_quality",
    "unit_length",
]

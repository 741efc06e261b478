"""Arrays in, arrays out: every function beside its gradient, named as in torch.nn.functional.

Each differentiable ``F.name(*args, **options)`` has ``F.name_vjp(g, *args, **options)``, which
takes the gradient `g` of the value to the gradients of the array arguments, in their order.
"""

from fconv.functional import (
    activation,
    affine,
    arithmetic,
    attention,
    conditional,
    convolution,
    convolution_transpose,
    cumulative,
    deformable,
    image_quality,
    indexing,
    interpolation,
    lookup,
    loss_classification,
    loss_probability,
    loss_ranking,
    loss_regression,
    loss_triplet,
    masking,
    normalization,
    padding,
    piecewise,
    pooling_adaptive,
    pooling_avg,
    pooling_max,
    products,
    rearranging,
    reductions,
    resampling,
    response,
    sample_norm,
    sampling,
    shape,
    slicing,
    smooth,
    statistics,
    unfolding,
    unpooling,
)
from fconv.functional.activation import *
from fconv.functional.affine import *
from fconv.functional.arithmetic import *
from fconv.functional.attention import *
from fconv.functional.conditional import *
from fconv.functional.convolution import *
from fconv.functional.convolution_transpose import *
from fconv.functional.cumulative import *
from fconv.functional.deformable import *
from fconv.functional.image_quality import *
from fconv.functional.indexing import *
from fconv.functional.interpolation import *
from fconv.functional.lookup import *
from fconv.functional.loss_classification import *
from fconv.functional.loss_probability import *
from fconv.functional.loss_ranking import *
from fconv.functional.loss_regression import *
from fconv.functional.loss_triplet import *
from fconv.functional.masking import *
from fconv.functional.normalization import *
from fconv.functional.padding import *
from fconv.functional.piecewise import *
from fconv.functional.pooling_adaptive import *
from fconv.functional.pooling_avg import *
from fconv.functional.pooling_max import *
from fconv.functional.products import *
from fconv.functional.rearranging import *
from fconv.functional.reductions import *
from fconv.functional.resampling import *
from fconv.functional.response import *
from fconv.functional.sample_norm import *
from fconv.functional.sampling import *
from fconv.functional.shape import *
from fconv.functional.slicing import *
from fconv.functional.smooth import *
from fconv.functional.statistics import *
from fconv.functional.unfolding import *
from fconv.functional.unpooling import *

__all__: list[str] = []
__all__ += activation.__all__
__all__ += affine.__all__
__all__ += arithmetic.__all__
__all__ += attention.__all__
__all__ += conditional.__all__
__all__ += convolution.__all__
__all__ += convolution_transpose.__all__
__all__ += cumulative.__all__
__all__ += deformable.__all__
__all__ += image_quality.__all__
__all__ += indexing.__all__
__all__ += interpolation.__all__
__all__ += lookup.__all__
__all__ += loss_classification.__all__
__all__ += loss_probability.__all__
__all__ += loss_ranking.__all__
__all__ += loss_regression.__all__
__all__ += loss_triplet.__all__
__all__ += masking.__all__
__all__ += normalization.__all__
__all__ += padding.__all__
__all__ += piecewise.__all__
__all__ += pooling_adaptive.__all__
__all__ += pooling_avg.__all__
__all__ += pooling_max.__all__
__all__ += products.__all__
__all__ += rearranging.__all__
__all__ += reductions.__all__
__all__ += resampling.__all__
__all__ += response.__all__
__all__ += sample_norm.__all__
__all__ += sampling.__all__
__all__ += shape.__all__
__all__ += slicing.__all__
__all__ += smooth.__all__
__all__ += statistics.__all__
__all__ += unfolding.__all__
__all__ += unpooling.__all__

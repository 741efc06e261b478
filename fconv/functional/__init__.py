"""Arrays in, arrays out: every function beside its gradient, named as in torch.nn.functional.

Each differentiable ``F.name(*args, **options)`` has ``F.name_vjp(g, *args, **options)``, which
takes the gradient `g` of the value to the gradients of the array arguments, in their order.
"""

from fconv.functional import (
    activation,
    affine,
    convolution,
    image_quality,
    loss_classification,
    loss_probability,
    loss_ranking,
    loss_regression,
    masking,
    normalization,
    pooling,
    resampling,
    shape,
)
from fconv.functional.activation import *
from fconv.functional.affine import *
from fconv.functional.convolution import *
from fconv.functional.image_quality import *
from fconv.functional.loss_classification import *
from fconv.functional.loss_probability import *
from fconv.functional.loss_ranking import *
from fconv.functional.loss_regression import *
from fconv.functional.masking import *
from fconv.functional.normalization import *
from fconv.functional.pooling import *
from fconv.functional.resampling import *
from fconv.functional.shape import *

__all__: list[str] = []
__all__ += activation.__all__
__all__ += affine.__all__
__all__ += convolution.__all__
__all__ += image_quality.__all__
__all__ += loss_classification.__all__
__all__ += loss_probability.__all__
__all__ += loss_ranking.__all__
__all__ += loss_regression.__all__
__all__ += masking.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__
__all__ += resampling.__all__
__all__ += shape.__all__

"""Hand a trained network over to PyTorch and to ONNX, and see that both compute the same."""

import numpy as np
import onnxruntime
import torch

import fconv as fc

x = fc.random.normal(fc.random.key(1), (4, 1, 28, 28))
net = fc.compose(
    fc.conv2d(8, 3), fc.batch_norm(), fc.relu(), fc.max_pool2d(2), fc.flatten(), fc.linear(10), fc.softmax(1)
)
params = net.init(fc.random.key(0), x.shape)
y = net.apply(params, x)

# A torch.nn.Module with the same parameters, ...
module = fc.to_torch_module(net, params, x.shape).eval()
with torch.no_grad():
    print("torch.nn:", module)
    print("largest difference:", np.abs(module(torch.from_numpy(x)).numpy() - y).max())

# ... or the parameters alone, for a module that was written by hand, and back again.
torch.save(fc.to_torch(params), "net.pt")
params = fc.from_state_dict(params, fc.load("net.pt"))  # which needs no PyTorch

# ONNX, for any number of pictures at once.
fc.to_onnx(net, params, x.shape, "net.onnx")
session = onnxruntime.InferenceSession("net.onnx")
(answer,) = session.run(None, {session.get_inputs()[0].name: x})
print("ONNX Runtime, largest difference:", np.abs(answer - y).max())

back, params = fc.from_onnx("net.onnx")
print("read back, largest difference:", np.abs(back.apply(params, x) - y).max())

"""PyTorch modules as people write them: tutorials, examples and the usual designs for small boards.

They were written down before any of them was imported, and are not chosen by what imports.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from networks import Listed, chains, layers
from torch import nn
from torch.nn import functional as F

Forward = Callable[[Any, Any], Any]
listed = Listed("torch")


def seed_values(module: nn.Module, seed: int = 0) -> None:
    """Gives normalizations values as training does: fresh ones are all 0 and 1."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.6, 1.4)
            nn.init.normal_(part.bias, 0, 0.2)
            assert part.running_mean is not None and part.running_var is not None
            nn.init.normal_(part.running_mean, 0, 0.3)
            nn.init.uniform_(part.running_var, 0.4, 1.6)


class Net(nn.Module):
    """Parts, and what forward makes of them: "conv1: Conv2d 3 6 5; features: Conv2d 6 8 3, ReLU"."""

    def __init__(self, forward: Forward, parts: str) -> None:
        super().__init__()
        self.made = forward
        for part in filter(str.strip, parts.split(";")):
            name, _, text = part.partition(":")
            chain = _layers(text)
            setattr(self, name.strip(), chain[0] if len(chain) == 1 else nn.Sequential(*chain))

    def forward(self, x: Any) -> Any:
        return self.made(self, x)


def net(head: str, parts: str) -> Callable[[Forward], None]:
    """Lists a module: a function from its parts and its input to its output."""
    return lambda forward: listed(head, lambda shape: Net(forward, parts))


def sequential(text: str, *_: Any) -> nn.Sequential:
    return nn.Sequential(*_layers(text))


def _layers(text: str) -> list[Any]:
    return layers(text, lambda kind: globals().get(kind) or getattr(nn, kind))  # a block of this module, or a layer


# ---- chains of layers ------------------------------------------------------------------------------------------------

CHAINS = """
polynomial-tutorial regression 3 signal: Linear 3 1, Flatten 0 1
ppo-policy control 8 signal: Linear 8 64, Tanh, Linear 64 64, Tanh, Linear 64 2, Tanh
dcgan-discriminator image 3x32x32 image: Conv2d 3 16 4 2 1 bias=False, LeakyReLU 0.2 inplace=True,
    Conv2d 16 32 4 2 1 bias=False, BatchNorm2d 32, LeakyReLU 0.2 inplace=True,
    Conv2d 32 64 4 2 1 bias=False, BatchNorm2d 64, LeakyReLU 0.2 inplace=True, Conv2d 64 1 4 1 0 bias=False, Sigmoid
conv-transpose-autoencoder autoencoder 1x28x28 image: Conv2d 1 16 3 stride=2 padding=1, ReLU,
    Conv2d 16 8 3 stride=2 padding=1, ReLU, ConvTranspose2d 8 16 3 stride=2 padding=1 output_padding=1, ReLU,
    ConvTranspose2d 16 1 3 stride=2 padding=1 output_padding=1, Sigmoid
har-conv1d motion 6x128 signal: Conv1d 6 32 5 padding=2, BatchNorm1d 32, ReLU, MaxPool1d 2,
    Conv1d 32 64 5 padding=2, BatchNorm1d 64, ReLU, MaxPool1d 2, Dropout 0.3, Flatten, Linear 2048 64, ReLU, Linear 64 6
resnet1d residual 6x64 signal: Conv1d 6 16 7 2 3, residual1d 16 16 1, residual1d 16 32 2,
    AdaptiveAvgPool1d 1, Flatten, Linear 32 5
wide-kernel-faults vibration 1x512 signal: Conv1d 1 16 64 stride=16 padding=24, BatchNorm1d 16, ReLU, MaxPool1d 2 2,
    Conv1d 16 32 3 padding=1, BatchNorm1d 32, ReLU, MaxPool1d 2 2, Flatten, Linear 256 100, ReLU, Linear 100 10
squeeze-excite-1d squeeze-excite 3x128 signal: Conv1d 3 16 5 2 2, BatchNorm1d 16, ReLU, squeeze_excite1d 16,
    Conv1d 16 32 5 2 2, ReLU, squeeze_excite1d 32, AdaptiveAvgPool1d 1, Flatten, Linear 32 4
ds-cnn sound 1x49x40 signal: Conv2d 1 32 (10,4) stride=(2,2) padding=(5,1) bias=False, BatchNorm2d 32, ReLU,
    separable 32 32, separable 32 32, separable 32 32, AdaptiveAvgPool2d (1,1), Flatten, Dropout 0.2, Linear 32 12
matchbox sound 40x98 signal: matchbox 40 32 11, matchbox 32 32 13, AdaptiveAvgPool1d 1, Flatten, Linear 32 12
lenet5 image 1x28x28 image: Conv2d 1 6 5 padding=2, Sigmoid, AvgPool2d 2 2, Conv2d 6 16 5, Sigmoid, AvgPool2d 2 2,
    Flatten, Linear 400 120, Sigmoid, Linear 120 84, Sigmoid, Linear 84 10
mobilenet-v3 squeeze-excite 3x32x32 image: Conv2d 3 8 3 2 1, Hardswish, mobile_v3 8 16 2, mobile_v3 16 24 2,
    AdaptiveAvgPool2d 1, Flatten, Linear 24 5
se-resnet squeeze-excite 3x32x32 image: Conv2d 3 16 3 1 1, ReLU, excited_residual 16 1 16, excited_residual 32 2 16,
    AdaptiveAvgPool2d 1, Flatten, Linear 32 10
squeezenet-fire image 3x32x32 image: Conv2d 3 16 3 stride=2, ReLU inplace=True, MaxPool2d 3 stride=2 ceil_mode=True,
    fire 16 8 16, fire 32 8 16, Dropout 0.5, Conv2d 32 10 1, ReLU inplace=True, AdaptiveAvgPool2d (1,1), Flatten
convnext image 3x32x32 image: Conv2d 3 16 4 4, convnext 16, convnext 16, AdaptiveAvgPool2d 1, Flatten, Linear 16 10
shufflenet-unit image 3x32x32 image: Conv2d 3 16 3 2 1, ReLU, shuffled 16, shuffled 16,
    AdaptiveAvgPool2d 1, Flatten, Linear 16 10
housing-silu regression 13 signal: Linear 13 64, SiLU, Linear 64 32, SiLU, Linear 32 1
sine regression 1 signal: Linear 1 16, ReLU, Linear 16 16, ReLU, Linear 16 1
mlp-gelu-layernorm regression 8 signal: Linear 8 32, LayerNorm 32, GELU, Linear 32 32, LayerNorm 32, GELU, Linear 32 1
residual-mlp residual 32 signal: Linear 32 48, ReLU, residual_dense 48, residual_dense 48, Linear 48 6
"""
for head, text in chains(CHAINS):
    listed(head, partial(sequential, text))

# ---- blocks of chains ------------------------------------------------------------------------------------------------


def added(m: Any, x: Any) -> Any:
    """Sums in place, as residual networks do."""
    out = F.relu(m.bn1(m.conv1(x)))
    out = m.bn2(m.conv2(out))
    out += m.shortcut(x)
    return F.relu(out)


def residual1d(cin: int, cout: int, stride: int) -> nn.Module:
    def forward(m: Any, x: Any) -> Any:
        identity = m.downsample(x) if hasattr(m, "downsample") else x
        out = m.relu(m.bn1(m.conv1(x)))
        out = m.bn2(m.conv2(out))
        out += identity
        return m.relu(out)

    parts = f"""conv1: Conv1d {cin} {cout} 3 {stride} 1 bias=False; bn1: BatchNorm1d {cout};
        conv2: Conv1d {cout} {cout} 3 1 1 bias=False; bn2: BatchNorm1d {cout}; relu: ReLU inplace=True"""
    if stride != 1 or cin != cout:
        parts += f"; downsample: Conv1d {cin} {cout} 1 {stride} bias=False, BatchNorm1d {cout}"
    return Net(forward, parts)


def residual2d(cin: int, cout: int, stride: int) -> nn.Module:
    shortcut = f"Conv2d {cin} {cout} 1 stride={stride} bias=False, BatchNorm2d {cout}"
    parts = f"""conv1: Conv2d {cin} {cout} 3 {stride} 1 bias=False; bn1: BatchNorm2d {cout};
        conv2: Conv2d {cout} {cout} 3 1 1 bias=False; bn2: BatchNorm2d {cout};
        shortcut: {shortcut if stride != 1 or cin != cout else "Sequential"}"""
    return Net(added, parts)


def excited_residual(width: int, stride: int, cin: int) -> nn.Module:
    def forward(m: Any, x: Any) -> Any:
        out = F.relu(m.bn1(m.conv1(x)))
        out = m.bn2(m.conv2(out))
        w = F.avg_pool2d(out, out.size(2))
        w = F.relu(m.fc1(w))
        w = torch.sigmoid(m.fc2(w))
        out = out * w
        out += m.shortcut(x)
        return F.relu(out)

    parts = f"""conv1: Conv2d {cin} {width} 3 {stride} 1 bias=False; bn1: BatchNorm2d {width};
        conv2: Conv2d {width} {width} 3 1 1 bias=False; bn2: BatchNorm2d {width};
        shortcut: Conv2d {cin} {width} 1 {stride} bias=False;
        fc1: Conv2d {width} {width // 8} 1; fc2: Conv2d {width // 8} {width} 1"""
    return Net(forward, parts)


def chomp(size: int) -> nn.Module:
    return Net(lambda m, x: x[:, :, :-size].contiguous(), "")


def causal(cin: int, cout: int, dilation: int) -> nn.Module:
    def forward(m: Any, x: Any) -> Any:
        res = m.downsample(x) if hasattr(m, "downsample") else x
        return F.relu(m.net(x) + res)

    pad = 2 * dilation
    parts = f"net: Conv1d {cin} {cout} 3 padding={pad} dilation={dilation}, chomp {pad}, ReLU, Dropout 0.2"
    return Net(forward, parts + (f"; downsample: Conv1d {cin} {cout} 1" if cin != cout else ""))


def squeeze_excite1d(channel: int) -> nn.Module:
    def forward(m: Any, x: Any) -> Any:
        b, c, _ = x.size()
        y = m.avg_pool(x).view(b, c)
        y = m.fc(y).view(b, c, 1)
        return x * y.expand_as(x)

    few = channel // 4
    fc = f"Linear {channel} {few} bias=False, ReLU inplace=True, Linear {few} {channel} bias=False, Sigmoid"
    return Net(forward, f"avg_pool: AdaptiveAvgPool1d 1; fc: {fc}")


def squeeze_excite2d(channels: int) -> nn.Module:
    def forward(m: Any, x: Any) -> Any:
        scale = m.activation(m.fc1(m.avgpool(x)))
        return m.scale_activation(m.fc2(scale)) * x

    few = channels // 4
    parts = f"""avgpool: AdaptiveAvgPool2d 1; fc1: Conv2d {channels} {few} 1; fc2: Conv2d {few} {channels} 1;
        activation: ReLU; scale_activation: Hardsigmoid"""
    return Net(forward, parts)


def separable(cin: int, cout: int) -> nn.Module:
    return sequential(
        f"Conv2d {cin} {cin} 3 padding=1 groups={cin} bias=False, BatchNorm2d {cin}, ReLU, "
        f"Conv2d {cin} {cout} 1 bias=False, BatchNorm2d {cout}, ReLU"
    )


def matchbox(cin: int, cout: int, kernel: int) -> nn.Module:
    """MatchboxNet's block: 1-D time-channel separable convolutions with a residual."""
    parts = f"""depthwise: Conv1d {cin} {cin} {kernel} padding={kernel // 2} groups={cin};
        pointwise: Conv1d {cin} {cout} 1; bn: BatchNorm1d {cout}; residual: Conv1d {cin} {cout} 1, BatchNorm1d {cout}"""
    return Net(lambda m, x: torch.relu(m.bn(m.pointwise(m.depthwise(x))) + m.residual(x)), parts)


def mobile_v2(cin: int, cout: int, stride: int, expand: int) -> nn.Module:
    wide = cin * expand
    parts = f"""conv: Conv2d {cin} {wide} 1 bias=False, BatchNorm2d {wide}, ReLU6 inplace=True,
        Conv2d {wide} {wide} 3 {stride} 1 groups={wide} bias=False, BatchNorm2d {wide}, ReLU6 inplace=True,
        Conv2d {wide} {cout} 1 bias=False, BatchNorm2d {cout}"""
    return Net((lambda m, x: x + m.conv(x)) if stride == 1 and cin == cout else (lambda m, x: m.conv(x)), parts)


def mobile_v3(cin: int, cout: int, stride: int) -> nn.Module:
    wide = 4 * cin
    return sequential(
        f"Conv2d {cin} {wide} 1 bias=False, BatchNorm2d {wide}, Hardswish, "
        f"Conv2d {wide} {wide} 5 {stride} 2 groups={wide} bias=False, BatchNorm2d {wide}, Hardswish, "
        f"squeeze_excite2d {wide}, Conv2d {wide} {cout} 1 bias=False, BatchNorm2d {cout}"
    )


def fire(cin: int, squeeze: int, expand: int) -> nn.Module:
    def forward(m: Any, x: Any) -> Any:
        x = m.activation(m.squeeze(x))
        return torch.cat([m.activation(m.expand1x1(x)), m.activation(m.expand3x3(x))], 1)

    parts = f"""squeeze: Conv2d {cin} {squeeze} 1; expand1x1: Conv2d {squeeze} {expand} 1;
        expand3x3: Conv2d {squeeze} {expand} 3 padding=1; activation: ReLU inplace=True"""
    return Net(forward, parts)


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Any) -> Any:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


def convnext(dim: int) -> nn.Module:
    parts = f"""dwconv: Conv2d {dim} {dim} 7 padding=3 groups={dim}; norm: LayerNorm2d {dim};
        pwconv1: Conv2d {dim} {4 * dim} 1; act: GELU; pwconv2: Conv2d {4 * dim} {dim} 1"""
    return Net(lambda m, x: x + m.pwconv2(m.act(m.pwconv1(m.norm(m.dwconv(x))))), parts)


def shuffled(channels: int) -> nn.Module:
    """ShuffleNet's unit."""

    def forward(m: Any, x: Any) -> Any:
        x1, x2 = x.chunk(2, dim=1)
        x = torch.cat((x1, m.branch(x2)), dim=1)
        batch, channels, height, width = x.size()
        x = x.view(batch, 2, channels // 2, height, width)
        x = torch.transpose(x, 1, 2).contiguous()
        return x.view(batch, channels, height, width)

    half = channels // 2
    parts = f"""branch: Conv2d {half} {half} 1 bias=False, BatchNorm2d {half}, ReLU inplace=True,
        Conv2d {half} {half} 3 padding=1 groups={half} bias=False, BatchNorm2d {half},
        Conv2d {half} {half} 1 bias=False, BatchNorm2d {half}, ReLU inplace=True"""
    return Net(forward, parts)


def residual_dense(width: int) -> nn.Module:
    return Net(lambda m, x: F.relu(x + m.net(x)), f"net: Linear {width} {width}, ReLU, Linear {width} {width}")


# ---- PyTorch's tutorials and examples --------------------------------------------------------------------------------

STACK = "flatten: Flatten; linear_relu_stack: Linear 784 128, ReLU, Linear 128 128, ReLU, Linear 128 10"  # 128, not 512
CIFAR = "conv2: Conv2d 6 16 5; fc1: Linear 400 120; fc2: Linear 120 84; fc3: Linear 84 10"

net("quickstart quickstart 1x28x28 image", STACK)(lambda m, x: m.linear_relu_stack(m.flatten(x)))


@net("cifar10-tutorial quickstart 3x32x32 image", f"conv1: Conv2d 3 6 5; pool: MaxPool2d 2 2; {CIFAR}")
def _(m: Any, x: Any) -> Any:
    x = m.pool(F.relu(m.conv1(x)))
    x = m.pool(F.relu(m.conv2(x)))
    x = torch.flatten(x, 1)
    x = F.relu(m.fc1(x))
    x = F.relu(m.fc2(x))
    return m.fc3(x)


@net("neural-networks-tutorial quickstart 1x32x32 image", f"conv1: Conv2d 1 6 5; {CIFAR}")
def _(m: Any, x: Any) -> Any:
    x = F.max_pool2d(F.relu(m.conv1(x)), (2, 2))
    x = F.max_pool2d(F.relu(m.conv2(x)), 2)
    x = torch.flatten(x, 1)
    x = F.relu(m.fc1(x))
    x = F.relu(m.fc2(x))
    return m.fc3(x)


@net(
    "mnist-example quickstart 1x28x28 image",
    "conv1: Conv2d 1 32 3 1; conv2: Conv2d 32 64 3 1; dropout1: Dropout 0.25; dropout2: Dropout 0.5;"
    "fc1: Linear 9216 128; fc2: Linear 128 10",
)
def _(m: Any, x: Any) -> Any:
    """pytorch/examples: mnist."""
    x = F.relu(m.conv1(x))
    x = F.relu(m.conv2(x))
    x = m.dropout1(F.max_pool2d(x, 2))
    x = torch.flatten(x, 1)
    x = m.dropout2(F.relu(m.fc1(x)))
    return F.log_softmax(m.fc2(x), dim=1)


@net(
    "what-is-nn-tutorial quickstart 784 image",
    "conv1: Conv2d 1 16 3 stride=2 padding=1; conv2: Conv2d 16 16 3 stride=2 padding=1;"
    "conv3: Conv2d 16 10 3 stride=2 padding=1",
)
def _(m: Any, x: Any) -> Any:
    x = x.view(-1, 1, 28, 28)
    x = F.relu(m.conv1(x))
    x = F.relu(m.conv2(x))
    x = F.relu(m.conv3(x))
    x = F.avg_pool2d(x, 4)
    return x.view(-1, x.size(1))


@net(
    "speech-command-m5 sound 1x2000 signal",
    "conv1: Conv1d 1 32 80 stride=16; bn1: BatchNorm1d 32; pool1: MaxPool1d 2; conv2: Conv1d 32 32 3;"
    "bn2: BatchNorm1d 32; pool2: MaxPool1d 2; conv3: Conv1d 32 64 3; bn3: BatchNorm1d 64; pool3: MaxPool1d 2;"
    "fc1: Linear 64 35",
)
def _(m: Any, x: Any) -> Any:
    """M5 of the audio tutorial, at a quarter of its length."""
    x = m.pool1(F.relu(m.bn1(m.conv1(x))))
    x = m.pool2(F.relu(m.bn2(m.conv2(x))))
    x = m.pool3(F.relu(m.bn3(m.conv3(x))))
    x = F.avg_pool1d(x, x.shape[-1])
    x = m.fc1(x.permute(0, 2, 1))
    return F.log_softmax(x, dim=2)


@net("dqn-tutorial control 4 signal", "layer1: Linear 4 128; layer2: Linear 128 128; layer3: Linear 128 2")
def _(m: Any, x: Any) -> Any:
    return m.layer3(F.relu(m.layer2(F.relu(m.layer1(x)))))


@net(
    "super-resolution-example image 1x32x32 image",
    "relu: ReLU; conv1: Conv2d 1 32 (5,5) (1,1) (2,2); conv2: Conv2d 32 32 (3,3) (1,1) (1,1);"
    "conv3: Conv2d 32 16 (3,3) (1,1) (1,1); conv4: Conv2d 16 4 (3,3) (1,1) (1,1); pixel_shuffle: PixelShuffle 2",
)
def _(m: Any, x: Any) -> Any:
    x = m.relu(m.conv1(x))
    x = m.relu(m.conv2(x))
    x = m.relu(m.conv3(x))
    return m.pixel_shuffle(m.conv4(x))


@net("lstm-mnist-rows recurrent 28x28 image", "rnn: LSTM 28 32 num_layers=1 batch_first=True; out: Linear 32 10")
def _(m: Any, x: Any) -> Any:
    r_out, _ = m.rnn(x)
    return m.out(r_out[:, -1, :])


@net("gru-classifier recurrent 24x6 signal", "gru: GRU 6 24 batch_first=True; fc: Linear 24 5; relu: ReLU")
def _(m: Any, x: Any) -> Any:
    out, _ = m.gru(x)
    return m.fc(m.relu(out[:, -1]))


@net(
    "linear-autoencoder autoencoder 784 image",
    "encoder: Linear 784 64, ReLU True, Linear 64 32, ReLU True, Linear 32 12;"
    "decoder: Linear 12 32, ReLU True, Linear 32 64, ReLU True, Linear 64 784, Sigmoid",
)
def _(m: Any, x: Any) -> Any:
    return m.decoder(m.encoder(x))


# ---- classifiers of signals ------------------------------------------------------------------------------------------


@net(
    "adaptive-pool-head motion 3x100 signal",
    "features: Conv1d 3 16 7 stride=2 padding=3, ReLU, Conv1d 16 32 5 stride=2 padding=2, ReLU;"
    "pool: AdaptiveAvgPool1d 1; fc: Linear 32 4",
)
def _(m: Any, x: Any) -> Any:
    return m.fc(m.pool(m.features(x)).squeeze(-1))


@net("channels-last-permuted motion 128x6 signal", "conv: Conv1d 6 16 5; fc: Linear 16 4")
def _(m: Any, x: Any) -> Any:
    """Data come as [time, channels]; forward turns them."""
    x = F.relu(m.conv(x.permute(0, 2, 1)))
    return m.fc(x.mean(dim=-1))


@net("tcn-weightless motion 6x100 signal", "tcn: causal 6 16 1, causal 16 16 2, causal 16 16 4; linear: Linear 16 4")
def _(m: Any, x: Any) -> Any:
    """Dilated causal convolutions: padded on both sides, then chomped."""
    return m.linear(m.tcn(x)[:, :, -1])


@net(
    "audio-max-mean sound 1x64x32 image",
    "conv1: Conv2d 1 16 3 padding=1; conv2: Conv2d 16 32 3 padding=1; fc: Linear 32 10",
)
def _(m: Any, x: Any) -> Any:
    """Mean and maximum over time and frequency, added: as sound taggers pool."""
    x = F.avg_pool2d(F.relu(m.conv1(x)), 2)
    x = F.avg_pool2d(F.relu(m.conv2(x)), 2)
    x = torch.mean(x, dim=3)
    x1, _ = torch.max(x, dim=2)
    x2 = torch.mean(x, dim=2)
    return torch.sigmoid(m.fc(x1 + x2))


@net("gated-tcn motion 3x64 signal", "f: Conv1d 3 16 3; g: Conv1d 3 16 3; out: Conv1d 16 16 1; fc: Linear 16 4")
def _(m: Any, x: Any) -> Any:
    """WaveNet's gate."""
    x = torch.tanh(m.f(x)) * torch.sigmoid(m.g(x))
    x = F.elu(m.out(x))
    return m.fc(F.adaptive_avg_pool1d(x, 1).flatten(1))


# ---- images ----------------------------------------------------------------------------------------------------------


@net(
    "vgg-small image 3x32x32 image",
    "features: Conv2d 3 16 3 padding=1, BatchNorm2d 16, ReLU inplace=True, MaxPool2d 2 2, "
    "Conv2d 16 32 3 padding=1, BatchNorm2d 32, ReLU inplace=True, MaxPool2d 2 2, "
    "Conv2d 32 48 3 padding=1, BatchNorm2d 48, ReLU inplace=True, "
    "Conv2d 48 48 3 padding=1, BatchNorm2d 48, ReLU inplace=True, MaxPool2d 2 2;"
    "avgpool: AdaptiveAvgPool2d (2,2); classifier: Linear 192 64, ReLU True, Dropout, Linear 64 10",
)
def _(m: Any, x: Any) -> Any:
    x = torch.flatten(m.avgpool(m.features(x)), 1)
    return m.classifier(x)


@net(
    "resnet-basic-blocks residual 3x32x32 image",
    "conv1: Conv2d 3 16 3 1 1 bias=False; bn1: BatchNorm2d 16; layer1: residual2d 16 16 1;"
    "layer2: residual2d 16 32 2; layer3: residual2d 32 48 2; linear: Linear 48 10",
)
def _(m: Any, x: Any) -> Any:
    x = F.relu(m.bn1(m.conv1(x)))
    x = m.layer3(m.layer2(m.layer1(x)))
    x = F.avg_pool2d(x, 8)
    return m.linear(x.view(x.size(0), -1))


@net(
    "mobilenet-v2 image 3x48x48 image",
    "features: Conv2d 3 8 3 2 1 bias=False, BatchNorm2d 8, ReLU6 inplace=True, mobile_v2 8 8 1 4, mobile_v2 8 16 2 4, "
    "mobile_v2 16 16 1 4, mobile_v2 16 24 2 4; classifier: Dropout 0.2, Linear 24 5",
)
def _(m: Any, x: Any) -> Any:
    return m.classifier(m.features(x).mean([2, 3]))


@net(
    "unet-small image 1x40x40 image",
    "down: Conv2d 1 8 3 padding=1, BatchNorm2d 8, ReLU inplace=True; pool: MaxPool2d 2;"
    "middle: Conv2d 8 16 3 padding=1, BatchNorm2d 16, ReLU inplace=True;"
    "up: Upsample scale_factor=2 mode=nearest; out: Conv2d 24 1 3 padding=1",
)
def _(m: Any, x: Any) -> Any:
    one = m.down(x)
    two = m.up(m.middle(m.pool(one)))
    return m.out(torch.cat([two, one], dim=1))


# ---- small dense networks --------------------------------------------------------------------------------------------


@net("iris classifier 4 raw", "fc1: Linear 4 16; fc2: Linear 16 16; out: Linear 16 3")
def _(m: Any, x: Any) -> Any:
    return m.out(F.relu(m.fc2(F.relu(m.fc1(x)))))


@net(
    "tabular-batchnorm classifier 20 signal",
    "bn0: BatchNorm1d 20; lin1: Linear 20 64; bn1: BatchNorm1d 64; lin2: Linear 64 32; bn2: BatchNorm1d 32;"
    "lin3: Linear 32 1; drops: Dropout 0.3",
)
def _(m: Any, x: Any) -> Any:
    x = m.bn0(x)
    x = m.bn1(m.drops(F.relu(m.lin1(x))))
    x = m.bn2(m.drops(F.relu(m.lin2(x))))
    return torch.sigmoid(m.lin3(x))


@net(
    "transformer-encoder attention 16x24 signal",
    "layer: TransformerEncoderLayer 24 nhead=2 dim_feedforward=48 batch_first=True; fc: Linear 24 4",
)
def _(m: Any, x: Any) -> Any:
    return m.fc(m.layer(x).mean(dim=1))

"""PyTorch modules as people write them: tutorials, examples and the usual designs for small boards.

They were written down before any of them was imported, and are not chosen by what imports.
"""

from __future__ import annotations

from typing import Any

import torch
from networks import Listed
from torch import nn
from torch.nn import functional as F

Shape = tuple[int, ...]
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


# ---- PyTorch's tutorials and examples --------------------------------------------------------------------------------


@listed("quickstart", (1, 28, 28), "image")
def net_quickstart(shape: Shape) -> nn.Module:
    """The tutorial's, with 128 in place of 512."""

    class NeuralNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flatten = nn.Flatten()
            self.linear_relu_stack = nn.Sequential(
                nn.Linear(28 * 28, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
            )

        def forward(self, x: Any) -> Any:
            x = self.flatten(x)
            return self.linear_relu_stack(x)

    return NeuralNetwork()


@listed("quickstart", (3, 32, 32), "image")
def net_cifar10_tutorial(shape: Shape) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 6, 5)
            self.pool = nn.MaxPool2d(2, 2)
            self.conv2 = nn.Conv2d(6, 16, 5)
            self.fc1 = nn.Linear(16 * 5 * 5, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)

        def forward(self, x: Any) -> Any:
            x = self.pool(F.relu(self.conv1(x)))
            x = self.pool(F.relu(self.conv2(x)))
            x = torch.flatten(x, 1)
            x = F.relu(self.fc1(x))
            x = F.relu(self.fc2(x))
            return self.fc3(x)

    return Net()


@listed("quickstart", (1, 32, 32), "image")
def net_neural_networks_tutorial(shape: Shape) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5)
            self.conv2 = nn.Conv2d(6, 16, 5)
            self.fc1 = nn.Linear(16 * 5 * 5, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)

        def forward(self, input: Any) -> Any:
            c1 = F.relu(self.conv1(input))
            s2 = F.max_pool2d(c1, (2, 2))
            c3 = F.relu(self.conv2(s2))
            s4 = F.max_pool2d(c3, 2)
            s4 = torch.flatten(s4, 1)
            f5 = F.relu(self.fc1(s4))
            f6 = F.relu(self.fc2(f5))
            return self.fc3(f6)

    return Net()


@listed("quickstart", (1, 28, 28), "image")
def net_mnist_example(shape: Shape) -> nn.Module:
    """pytorch/examples: mnist."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 32, 3, 1)
            self.conv2 = nn.Conv2d(32, 64, 3, 1)
            self.dropout1 = nn.Dropout(0.25)
            self.dropout2 = nn.Dropout(0.5)
            self.fc1 = nn.Linear(9216, 128)
            self.fc2 = nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            x = F.relu(self.conv1(x))
            x = F.relu(self.conv2(x))
            x = F.max_pool2d(x, 2)
            x = self.dropout1(x)
            x = torch.flatten(x, 1)
            x = F.relu(self.fc1(x))
            x = self.dropout2(x)
            x = self.fc2(x)
            return F.log_softmax(x, dim=1)

    return Net()


@listed("quickstart", (784,), "image")
def net_what_is_nn_tutorial(shape: Shape) -> nn.Module:
    class CNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1)
            self.conv2 = nn.Conv2d(16, 16, kernel_size=3, stride=2, padding=1)
            self.conv3 = nn.Conv2d(16, 10, kernel_size=3, stride=2, padding=1)

        def forward(self, xb: Any) -> Any:
            xb = xb.view(-1, 1, 28, 28)
            xb = F.relu(self.conv1(xb))
            xb = F.relu(self.conv2(xb))
            xb = F.relu(self.conv3(xb))
            xb = F.avg_pool2d(xb, 4)
            return xb.view(-1, xb.size(1))

    return CNN()


@listed("sound", (1, 2000), "signal")
def net_speech_command_m5(shape: Shape) -> nn.Module:
    """M5 of the audio tutorial, at a quarter of its length."""

    class M5(nn.Module):
        def __init__(self, n_input: int = 1, n_output: int = 35, stride: int = 16, n_channel: int = 32) -> None:
            super().__init__()
            self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=80, stride=stride)
            self.bn1 = nn.BatchNorm1d(n_channel)
            self.pool1 = nn.MaxPool1d(2)
            self.conv2 = nn.Conv1d(n_channel, n_channel, kernel_size=3)
            self.bn2 = nn.BatchNorm1d(n_channel)
            self.pool2 = nn.MaxPool1d(2)
            self.conv3 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=3)
            self.bn3 = nn.BatchNorm1d(2 * n_channel)
            self.pool3 = nn.MaxPool1d(2)
            self.fc1 = nn.Linear(2 * n_channel, n_output)

        def forward(self, x: Any) -> Any:
            x = self.conv1(x)
            x = F.relu(self.bn1(x))
            x = self.pool1(x)
            x = self.conv2(x)
            x = F.relu(self.bn2(x))
            x = self.pool2(x)
            x = self.conv3(x)
            x = F.relu(self.bn3(x))
            x = self.pool3(x)
            x = F.avg_pool1d(x, x.shape[-1])
            x = x.permute(0, 2, 1)
            x = self.fc1(x)
            return F.log_softmax(x, dim=2)

    return M5()


@listed("regression", (3,), "signal")
def net_polynomial_tutorial(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 1), nn.Flatten(0, 1))


@listed("control", (4,), "signal")
def net_dqn_tutorial(shape: Shape) -> nn.Module:
    class DQN(nn.Module):
        def __init__(self, n_observations: int, n_actions: int) -> None:
            super().__init__()
            self.layer1 = nn.Linear(n_observations, 128)
            self.layer2 = nn.Linear(128, 128)
            self.layer3 = nn.Linear(128, n_actions)

        def forward(self, x: Any) -> Any:
            x = F.relu(self.layer1(x))
            x = F.relu(self.layer2(x))
            return self.layer3(x)

    return DQN(4, 2)


@listed("control", (8,), "signal")
def net_ppo_policy(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2), nn.Tanh())


@listed("image", (3, 32, 32), "image")
def net_dcgan_discriminator(shape: Shape) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(16, 32, 4, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(32, 64, 4, 2, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(64, 1, 4, 1, 0, bias=False),
        nn.Sigmoid(),
    )


@listed("image", (1, 32, 32), "image")
def net_super_resolution_example(shape: Shape) -> nn.Module:
    class Net(nn.Module):
        def __init__(self, upscale_factor: int) -> None:
            super().__init__()
            self.relu = nn.ReLU()
            self.conv1 = nn.Conv2d(1, 32, (5, 5), (1, 1), (2, 2))
            self.conv2 = nn.Conv2d(32, 32, (3, 3), (1, 1), (1, 1))
            self.conv3 = nn.Conv2d(32, 16, (3, 3), (1, 1), (1, 1))
            self.conv4 = nn.Conv2d(16, upscale_factor**2, (3, 3), (1, 1), (1, 1))
            self.pixel_shuffle = nn.PixelShuffle(upscale_factor)

        def forward(self, x: Any) -> Any:
            x = self.relu(self.conv1(x))
            x = self.relu(self.conv2(x))
            x = self.relu(self.conv3(x))
            return self.pixel_shuffle(self.conv4(x))

    return Net(2)


@listed("recurrent", (28, 28), "image")
def net_lstm_mnist_rows(shape: Shape) -> nn.Module:
    class RNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(input_size=28, hidden_size=32, num_layers=1, batch_first=True)
            self.out = nn.Linear(32, 10)

        def forward(self, x: Any) -> Any:
            r_out, _ = self.rnn(x)
            return self.out(r_out[:, -1, :])

    return RNN()


@listed("recurrent", (24, 6), "signal")
def net_gru_classifier(shape: Shape) -> nn.Module:
    class GRUNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(6, 24, batch_first=True)
            self.fc = nn.Linear(24, 5)
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            out, h = self.gru(x)
            return self.fc(self.relu(out[:, -1]))

    return GRUNet()


@listed("autoencoder", (784,), "image")
def net_linear_autoencoder(shape: Shape) -> nn.Module:
    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(
                nn.Linear(784, 64), nn.ReLU(True), nn.Linear(64, 32), nn.ReLU(True), nn.Linear(32, 12)
            )
            self.decoder = nn.Sequential(
                nn.Linear(12, 32), nn.ReLU(True), nn.Linear(32, 64), nn.ReLU(True), nn.Linear(64, 784), nn.Sigmoid()
            )

        def forward(self, x: Any) -> Any:
            return self.decoder(self.encoder(x))

    return Autoencoder()


@listed("autoencoder", (1, 28, 28), "image")
def net_conv_transpose_autoencoder(shape: Shape) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 16, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 3, stride=2, padding=1, output_padding=1),
        nn.Sigmoid(),
    )


# ---- classifiers of signals ------------------------------------------------------------------------------------------


@listed("motion", (6, 128), "signal")
def net_har_conv1d(shape: Shape) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(6, 32, kernel_size=5, padding=2),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(32, 64, kernel_size=5, padding=2),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(64 * 32, 64),
        nn.ReLU(),
        nn.Linear(64, 6),
    )


@listed("motion", (3, 100), "signal")
def net_adaptive_pool_head(shape: Shape) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv1d(3, 16, 7, stride=2, padding=3),
                nn.ReLU(),
                nn.Conv1d(16, 32, 5, stride=2, padding=2),
                nn.ReLU(),
            )
            self.pool = nn.AdaptiveAvgPool1d(1)
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Any) -> Any:
            x = self.pool(self.features(x)).squeeze(-1)
            return self.fc(x)

    return Net()


@listed("motion", (128, 6), "signal")
def net_channels_last_permuted(shape: Shape) -> nn.Module:
    """Data come as [time, channels]; forward turns them."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(6, 16, 5)
            self.fc = nn.Linear(16, 4)

        def forward(self, x: Any) -> Any:
            x = x.permute(0, 2, 1)
            x = F.relu(self.conv(x))
            return self.fc(x.mean(dim=-1))

    return Net()


@listed("residual", (6, 64), "signal")
def net_resnet1d(shape: Shape) -> nn.Module:
    class Block(nn.Module):
        def __init__(self, cin: int, cout: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv1d(cin, cout, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm1d(cout)
            self.conv2 = nn.Conv1d(cout, cout, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm1d(cout)
            self.relu = nn.ReLU(inplace=True)
            self.downsample = None
            if stride != 1 or cin != cout:
                self.downsample = nn.Sequential(nn.Conv1d(cin, cout, 1, stride, bias=False), nn.BatchNorm1d(cout))

        def forward(self, x: Any) -> Any:
            identity = x if self.downsample is None else self.downsample(x)
            out = self.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            out += identity
            return self.relu(out)

    return nn.Sequential(
        nn.Conv1d(6, 16, 7, 2, 3),
        Block(16, 16, 1),
        Block(16, 32, 2),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


@listed("motion", (6, 100), "signal")
def net_tcn_weightless(shape: Shape) -> nn.Module:
    """Dilated causal convolutions: padded on both sides, then chomped."""

    class Chomp(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.size = size

        def forward(self, x: Any) -> Any:
            return x[:, :, : -self.size].contiguous()

    class Block(nn.Module):
        def __init__(self, cin: int, cout: int, dilation: int) -> None:
            super().__init__()
            pad = 2 * dilation
            self.net = nn.Sequential(
                nn.Conv1d(cin, cout, 3, padding=pad, dilation=dilation), Chomp(pad), nn.ReLU(), nn.Dropout(0.2)
            )
            self.downsample = nn.Conv1d(cin, cout, 1) if cin != cout else None

        def forward(self, x: Any) -> Any:
            res = x if self.downsample is None else self.downsample(x)
            return F.relu(self.net(x) + res)

    class TCN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tcn = nn.Sequential(Block(6, 16, 1), Block(16, 16, 2), Block(16, 16, 4))
            self.linear = nn.Linear(16, 4)

        def forward(self, x: Any) -> Any:
            return self.linear(self.tcn(x)[:, :, -1])

    return TCN()


@listed("vibration", (1, 512), "signal")
def net_wide_kernel_faults(shape: Shape) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(1, 16, kernel_size=64, stride=16, padding=24),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.MaxPool1d(2, 2),
        nn.Conv1d(16, 32, 3, padding=1),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.MaxPool1d(2, 2),
        nn.Flatten(),
        nn.Linear(32 * 8, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


@listed("squeeze-excite", (3, 128), "signal")
def net_squeeze_excite_1d(shape: Shape) -> nn.Module:
    class SELayer(nn.Module):
        def __init__(self, channel: int, reduction: int = 4) -> None:
            super().__init__()
            self.avg_pool = nn.AdaptiveAvgPool1d(1)
            self.fc = nn.Sequential(
                nn.Linear(channel, channel // reduction, bias=False),
                nn.ReLU(inplace=True),
                nn.Linear(channel // reduction, channel, bias=False),
                nn.Sigmoid(),
            )

        def forward(self, x: Any) -> Any:
            b, c, _ = x.size()
            y = self.avg_pool(x).view(b, c)
            y = self.fc(y).view(b, c, 1)
            return x * y.expand_as(x)

    return nn.Sequential(
        nn.Conv1d(3, 16, 5, 2, 2),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        SELayer(16),
        nn.Conv1d(16, 32, 5, 2, 2),
        nn.ReLU(),
        SELayer(32),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 4),
    )


@listed("sound", (1, 49, 40), "signal")
def net_ds_cnn(shape: Shape) -> nn.Module:
    def separable(cin: int, cout: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(cin, cin, 3, padding=1, groups=cin, bias=False),
            nn.BatchNorm2d(cin),
            nn.ReLU(),
            nn.Conv2d(cin, cout, 1, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU(),
        )

    return nn.Sequential(
        nn.Conv2d(1, 32, (10, 4), stride=(2, 2), padding=(5, 1), bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        separable(32, 32),
        separable(32, 32),
        separable(32, 32),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32, 12),
    )


@listed("sound", (40, 98), "signal")
def net_matchbox(shape: Shape) -> nn.Module:
    """MatchboxNet's block: 1-D time-channel separable convolutions with a residual."""

    class Block(nn.Module):
        def __init__(self, cin: int, cout: int, kernel: int) -> None:
            super().__init__()
            self.depthwise = nn.Conv1d(cin, cin, kernel, padding=kernel // 2, groups=cin)
            self.pointwise = nn.Conv1d(cin, cout, 1)
            self.bn = nn.BatchNorm1d(cout)
            self.residual = nn.Sequential(nn.Conv1d(cin, cout, 1), nn.BatchNorm1d(cout))

        def forward(self, x: Any) -> Any:
            return torch.relu(self.bn(self.pointwise(self.depthwise(x))) + self.residual(x))

    return nn.Sequential(Block(40, 32, 11), Block(32, 32, 13), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 12))


@listed("sound", (1, 64, 32), "image")
def net_audio_max_mean(shape: Shape) -> nn.Module:
    """Mean and maximum over time and frequency, added: as sound taggers pool."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
            self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
            self.fc = nn.Linear(32, 10)

        def forward(self, x: Any) -> Any:
            x = F.avg_pool2d(F.relu(self.conv1(x)), 2)
            x = F.avg_pool2d(F.relu(self.conv2(x)), 2)
            x = torch.mean(x, dim=3)
            x1, _ = torch.max(x, dim=2)
            x2 = torch.mean(x, dim=2)
            return torch.sigmoid(self.fc(x1 + x2))

    return Net()


# ---- images ----------------------------------------------------------------------------------------------------------


@listed("image", (1, 28, 28), "image")
def net_lenet5(shape: Shape) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, kernel_size=5, padding=2),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.Sigmoid(),
        nn.Linear(120, 84),
        nn.Sigmoid(),
        nn.Linear(84, 10),
    )


@listed("image", (3, 32, 32), "image")
def net_vgg_small(shape: Shape) -> nn.Module:
    layers: list[nn.Module] = []
    cin = 3
    for v in (16, "M", 32, "M", 48, 48, "M"):
        if v == "M":
            layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
        else:
            layers += [nn.Conv2d(cin, int(v), kernel_size=3, padding=1), nn.BatchNorm2d(int(v)), nn.ReLU(inplace=True)]
            cin = int(v)

    class VGG(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(*layers)
            self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
            self.classifier = nn.Sequential(nn.Linear(48 * 4, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 10))

        def forward(self, x: Any) -> Any:
            x = self.features(x)
            x = self.avgpool(x)
            x = torch.flatten(x, 1)
            return self.classifier(x)

    return VGG()


@listed("residual", (3, 32, 32), "image")
def net_resnet_basic_blocks(shape: Shape) -> nn.Module:
    class BasicBlock(nn.Module):
        def __init__(self, in_planes: int, planes: int, stride: int = 1) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.shortcut = nn.Sequential()
            if stride != 1 or in_planes != planes:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(in_planes, planes, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(planes)
                )

        def forward(self, x: Any) -> Any:
            out = F.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            out += self.shortcut(x)
            return F.relu(out)

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, kernel_size=3, stride=1, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            self.layer1 = BasicBlock(16, 16)
            self.layer2 = BasicBlock(16, 32, 2)
            self.layer3 = BasicBlock(32, 48, 2)
            self.linear = nn.Linear(48, 10)

        def forward(self, x: Any) -> Any:
            out = F.relu(self.bn1(self.conv1(x)))
            out = self.layer3(self.layer2(self.layer1(out)))
            out = F.avg_pool2d(out, 8)
            out = out.view(out.size(0), -1)
            return self.linear(out)

    return ResNet()


@listed("image", (3, 48, 48), "image")
def net_mobilenet_v2(shape: Shape) -> nn.Module:
    class InvertedResidual(nn.Module):
        def __init__(self, inp: int, oup: int, stride: int, expand_ratio: int) -> None:
            super().__init__()
            hidden = inp * expand_ratio
            self.use_res_connect = stride == 1 and inp == oup
            self.conv = nn.Sequential(
                nn.Conv2d(inp, hidden, 1, bias=False),
                nn.BatchNorm2d(hidden),
                nn.ReLU6(inplace=True),
                nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
                nn.BatchNorm2d(hidden),
                nn.ReLU6(inplace=True),
                nn.Conv2d(hidden, oup, 1, bias=False),
                nn.BatchNorm2d(oup),
            )

        def forward(self, x: Any) -> Any:
            if self.use_res_connect:
                return x + self.conv(x)
            return self.conv(x)

    class MobileNetV2(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, 8, 3, 2, 1, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU6(inplace=True),
                InvertedResidual(8, 8, 1, 4),
                InvertedResidual(8, 16, 2, 4),
                InvertedResidual(16, 16, 1, 4),
                InvertedResidual(16, 24, 2, 4),
            )
            self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(24, 5))

        def forward(self, x: Any) -> Any:
            x = self.features(x)
            x = x.mean([2, 3])
            return self.classifier(x)

    return MobileNetV2()


@listed("squeeze-excite", (3, 32, 32), "image")
def net_mobilenet_v3(shape: Shape) -> nn.Module:
    class SqueezeExcitation(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc1 = nn.Conv2d(channels, channels // 4, 1)
            self.fc2 = nn.Conv2d(channels // 4, channels, 1)
            self.activation = nn.ReLU()
            self.scale_activation = nn.Hardsigmoid()

        def forward(self, x: Any) -> Any:
            scale = self.avgpool(x)
            scale = self.activation(self.fc1(scale))
            scale = self.scale_activation(self.fc2(scale))
            return scale * x

    def block(cin: int, cout: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(cin, 4 * cin, 1, bias=False),
            nn.BatchNorm2d(4 * cin),
            nn.Hardswish(),
            nn.Conv2d(4 * cin, 4 * cin, 5, stride, 2, groups=4 * cin, bias=False),
            nn.BatchNorm2d(4 * cin),
            nn.Hardswish(),
            SqueezeExcitation(4 * cin),
            nn.Conv2d(4 * cin, cout, 1, bias=False),
            nn.BatchNorm2d(cout),
        )

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.Hardswish(),
        block(8, 16, 2),
        block(16, 24, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 5),
    )


@listed("squeeze-excite", (3, 32, 32), "image")
def net_se_resnet(shape: Shape) -> nn.Module:
    class SEBlock(nn.Module):
        def __init__(self, planes: int, stride: int, cin: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(cin, planes, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.shortcut = nn.Conv2d(cin, planes, 1, stride, bias=False)
            self.fc1 = nn.Conv2d(planes, planes // 8, kernel_size=1)
            self.fc2 = nn.Conv2d(planes // 8, planes, kernel_size=1)

        def forward(self, x: Any) -> Any:
            out = F.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            w = F.avg_pool2d(out, out.size(2))
            w = F.relu(self.fc1(w))
            w = torch.sigmoid(self.fc2(w))
            out = out * w
            out += self.shortcut(x)
            return F.relu(out)

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1),
        nn.ReLU(),
        SEBlock(16, 1, 16),
        SEBlock(32, 2, 16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


@listed("image", (3, 32, 32), "image")
def net_squeezenet_fire(shape: Shape) -> nn.Module:
    class Fire(nn.Module):
        def __init__(self, inplanes: int, squeeze: int, expand: int) -> None:
            super().__init__()
            self.squeeze = nn.Conv2d(inplanes, squeeze, kernel_size=1)
            self.expand1x1 = nn.Conv2d(squeeze, expand, kernel_size=1)
            self.expand3x3 = nn.Conv2d(squeeze, expand, kernel_size=3, padding=1)
            self.activation = nn.ReLU(inplace=True)

        def forward(self, x: Any) -> Any:
            x = self.activation(self.squeeze(x))
            return torch.cat([self.activation(self.expand1x1(x)), self.activation(self.expand3x3(x))], 1)

    return nn.Sequential(
        nn.Conv2d(3, 16, kernel_size=3, stride=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True),
        Fire(16, 8, 16),
        Fire(32, 8, 16),
        nn.Dropout(p=0.5),
        nn.Conv2d(32, 10, kernel_size=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
    )


@listed("image", (3, 32, 32), "image")
def net_convnext(shape: Shape) -> nn.Module:
    class LayerNorm2d(nn.LayerNorm):
        def forward(self, x: Any) -> Any:
            x = x.permute(0, 2, 3, 1)
            x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
            return x.permute(0, 3, 1, 2)

    class Block(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
            self.norm = LayerNorm2d(dim)
            self.pwconv1 = nn.Conv2d(dim, 4 * dim, 1)
            self.act = nn.GELU()
            self.pwconv2 = nn.Conv2d(4 * dim, dim, 1)

        def forward(self, x: Any) -> Any:
            return x + self.pwconv2(self.act(self.pwconv1(self.norm(self.dwconv(x)))))

    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 4), Block(16), Block(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )


@listed("image", (3, 32, 32), "image")
def net_shufflenet_unit(shape: Shape) -> nn.Module:
    def channel_shuffle(x: Any, groups: int) -> Any:
        batch, channels, height, width = x.size()
        x = x.view(batch, groups, channels // groups, height, width)
        x = torch.transpose(x, 1, 2).contiguous()
        return x.view(batch, channels, height, width)

    class Unit(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            half = channels // 2
            self.branch = nn.Sequential(
                nn.Conv2d(half, half, 1, bias=False),
                nn.BatchNorm2d(half),
                nn.ReLU(inplace=True),
                nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False),
                nn.BatchNorm2d(half),
                nn.Conv2d(half, half, 1, bias=False),
                nn.BatchNorm2d(half),
                nn.ReLU(inplace=True),
            )

        def forward(self, x: Any) -> Any:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, self.branch(x2)), dim=1)
            return channel_shuffle(out, 2)

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.ReLU(),
        Unit(16),
        Unit(16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


@listed("image", (1, 40, 40), "image")
def net_unet_small(shape: Shape) -> nn.Module:
    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
            self.pool = nn.MaxPool2d(2)
            self.middle = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
            self.up = nn.Upsample(scale_factor=2, mode="nearest")
            self.out = nn.Conv2d(24, 1, 3, padding=1)

        def forward(self, x: Any) -> Any:
            one = self.down(x)
            two = self.up(self.middle(self.pool(one)))
            return self.out(torch.cat([two, one], dim=1))

    return UNet()


# ---- small dense networks --------------------------------------------------------------------------------------------


@listed("classifier", (4,), "raw")
def net_iris(shape: Shape) -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(4, 16)
            self.fc2 = nn.Linear(16, 16)
            self.out = nn.Linear(16, 3)

        def forward(self, x: Any) -> Any:
            x = F.relu(self.fc1(x))
            x = F.relu(self.fc2(x))
            return self.out(x)

    return Model()


@listed("classifier", (20,), "signal")
def net_tabular_batchnorm(shape: Shape) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn0 = nn.BatchNorm1d(20)
            self.lin1 = nn.Linear(20, 64)
            self.bn1 = nn.BatchNorm1d(64)
            self.lin2 = nn.Linear(64, 32)
            self.bn2 = nn.BatchNorm1d(32)
            self.lin3 = nn.Linear(32, 1)
            self.drops = nn.Dropout(0.3)

        def forward(self, x: Any) -> Any:
            x = self.bn0(x)
            x = self.bn1(self.drops(F.relu(self.lin1(x))))
            x = self.bn2(self.drops(F.relu(self.lin2(x))))
            return torch.sigmoid(self.lin3(x))

    return Net()


@listed("regression", (13,), "signal")
def net_housing_silu(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Linear(13, 64), nn.SiLU(), nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 1))


@listed("regression", (1,), "signal")
def net_sine(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))


@listed("regression", (8,), "signal")
def net_mlp_gelu_layernorm(shape: Shape) -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 1)
    )


@listed("residual", (32,), "signal")
def net_residual_mlp(shape: Shape) -> nn.Module:
    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

        def forward(self, x: Any) -> Any:
            return F.relu(x + self.net(x))

    return nn.Sequential(nn.Linear(32, 48), nn.ReLU(), Block(48), Block(48), nn.Linear(48, 6))


@listed("attention", (16, 24), "signal")
def net_transformer_encoder(shape: Shape) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(24, nhead=2, dim_feedforward=48, batch_first=True)
            self.fc = nn.Linear(24, 4)

        def forward(self, x: Any) -> Any:
            return self.fc(self.layer(x).mean(dim=1))

    return Net()


@listed("motion", (3, 64), "signal")
def net_gated_tcn(shape: Shape) -> nn.Module:
    """WaveNet's gate."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Conv1d(3, 16, 3)
            self.g = nn.Conv1d(3, 16, 3)
            self.out = nn.Conv1d(16, 16, 1)
            self.fc = nn.Linear(16, 4)

        def forward(self, x: Any) -> Any:
            x = torch.tanh(self.f(x)) * torch.sigmoid(self.g(x))
            x = F.elu(self.out(x))
            return self.fc(F.adaptive_avg_pool1d(x, 1).flatten(1))

    return Net()

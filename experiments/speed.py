"""The speed of training a network on this machine.

Question: how fast is a network trained on 2 CPU cores? Images are random ones of the size of the
network's papers, 128 in a batch. `docs/speed.md` compares with other frameworks, and was measured
at another time: the same step of ResNet-20 took 13 % less there.

    resjax bench --config=experiments/speed.py:cifar-resnet20 --depths=20,56,110,1202
    resjax bench --config=experiments/speed.py:resnet50 --config.model.dtype=bfloat16

The argument is a name of `resjax describe --help`. `--config.data.name=fake:64x64x3:1000` takes
images of another size.

Hardware and time: any; the first command takes 2 min on 2 CPU cores.
"""

from ml_collections import ConfigDict

from resjax.models.build import preset


def get_config(name: str = "cifar-resnet20") -> ConfigDict:
    config, image_shape, classes = preset(name)
    size = "x".join(map(str, image_shape))
    config.train.batch_size = 128
    config.data.name = f"fake:{size}:{classes}:{2 * config.train.batch_size}"
    return config

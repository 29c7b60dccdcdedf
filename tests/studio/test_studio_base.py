"""The base that comes with the studio is what the commands make."""

from studio_projects import PERSON, motion

from edgelora import datasets, formats, quantization
from edgelora.training import pretrained_har


def test_the_base_for_motion_is_what_pretrain_and_quantize_make() -> None:
    people = datasets.load_har(PERSON)
    model = quantization.quantize_on(pretrained_har(PERSON, 0), people.pretrain)
    assert motion().elm == formats.pack_model(model)

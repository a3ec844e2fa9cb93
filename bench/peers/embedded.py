"""What lmms-eval shows of a question of the embedded study: its image."""

from PIL import Image


def doc_to_visual(doc):
    return [Image.open(doc["image"]).convert("RGB")]
